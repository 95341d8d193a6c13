"""The script that exports networks says what it lacks, states what Thaw reads, and exports if it lacks nothing."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from thaw.features.foreign.network import open_network
from thaw.features.foreign.preprocessing import read_stated

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "export_onnx.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("export_onnx", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_what_is_not_installed_is_named_in_one_line(
    script: ModuleType,
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "find_spec", lambda name: object() if name == "onnx" else None)
    assert script.main([library, "any", str(tmp_path / "net.onnx")]) == 1
    assert capsys.readouterr().err == (f"error: {library}, torch not installed; type pip install {library} torch\n")
    assert not list(tmp_path.iterdir())


def test_what_it_states_is_what_is_read(script: ModuleType, tmp_path: Path) -> None:
    stated = script._stated((0.485, 0.456, 0.406), [0.229, 0.224, 0.225], 224, "bicubic")
    (tmp_path / "net.json").write_text(json.dumps({**stated, "scale": 1 / 255}))
    read = read_stated(tmp_path / "net.json")
    assert (read.normalize, read.image_size) == ("rgb:0.485,0.456,0.406:0.229,0.224,0.225", 224)
    assert (read.aspect, read.resize) == ("crop", "bicubic")


@pytest.mark.parametrize(("library", "name"), [("timm", "resnet18"), ("torchvision", "resnet18")])
def test_a_network_with_random_weights_is_exported(script: ModuleType, library: str, name: str, tmp_path: Path) -> None:
    for needed in ("torch", library):
        pytest.importorskip(needed, reason=f"{needed} is not installed, which no user of Thaw needs")
    path = tmp_path / "net.onnx"
    assert script.main([library, name, str(path), "--random"]) == 0
    network = open_network(path, "onnx:net")
    assert network.default_layers == "features"
    assert network.output_shape("features", network.default_image_size) == (1, 1, 512)
    assert network.normalization.startswith("rgb:0.485,0.456,0.406:")


def test_its_help_needs_no_library(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        script.main(["--help"])
    assert stop.value.code == 0
    assert "Export a pretrained network of timm, torchvision or transformers as ONNX" in capsys.readouterr().out
