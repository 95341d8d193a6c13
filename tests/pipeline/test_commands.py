"""The commands that are recommended: complete, and as a shell takes them."""

import shlex
from pathlib import Path

from thaw.pipeline.cli import App
from thaw.pipeline.commands import beside, command
from thaw.pipeline.config import Shared
from thaw.pipeline.run.run_json import write_run_settings


def test_a_command_in_a_run_that_is_there_says_only_what_it_adds(tmp_path: Path) -> None:
    settings = Shared(run=tmp_path, image_size=64)
    write_run_settings(settings)
    words = shlex.split(command(settings, "svm", {"layer": "block4_pool", "transform": "sqrt"}))
    assert words == [
        *("python", "-m", "pipeline", "svm", "--run", str(tmp_path)),
        *("--layer", "block4_pool", "--transform", "sqrt"),
    ]


def test_a_command_in_another_run_says_all_that_is_no_default(tmp_path: Path) -> None:
    settings = Shared(run=tmp_path / "a b", dataset=f"folder:{tmp_path}/my pictures", image_size=96, skip_bad=True)
    words = shlex.split(command(settings, "logreg", {}))
    options = set(words[4:])
    assert {"--dataset", f"folder:{tmp_path}/my pictures", "--image-size", "96", "--skip-bad"} <= options
    assert "--seed" not in options
    assert "True" not in options


def test_a_command_names_the_network_and_leaves_out_what_follows_from_it(tmp_path: Path) -> None:
    settings = Shared(run=tmp_path / "new", backbone="inceptionv3", weights="random")
    words = shlex.split(command(settings, "logreg", {}))
    assert words[6:] == ["--dataset", "digits", "--backbone", "inceptionv3", "--weights", "random"]


def test_a_run_beside_is_named_by_what_differs(tmp_path: Path) -> None:
    settings = Shared(run=tmp_path / "flowers")
    other = beside(settings, image_size=96, pooling="auto", layers="block5_pool")
    assert other.run_folder == tmp_path / "flowers-96-block5_pool"
    assert (other.image_size, other.layers, other.dataset) == (96, "block5_pool", "digits")
    assert beside(settings, image_size=48).run_folder == settings.run_folder


def test_a_recommended_command_line_is_understood() -> None:
    words = shlex.split(command(Shared(dataset="elpv", target="four", image_size=96), "svm", {"layer": "block4_pool"}))
    assert words[3] in App.model_fields
