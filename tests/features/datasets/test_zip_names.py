import zipfile

import pytest

from thaw.features.datasets.dataset import load_dataset
from thaw.features.datasets.options import ReadOptions

from tests.builders.images import png, refusal


def archive(path, encoding, *names):
    """Write a zip whose names are in an encoding and not marked as UTF-8, as older programs do."""
    places = [f"place{number:03d}".ljust(len(name.encode(encoding)), "x") for number, name in enumerate(names)]
    with zipfile.ZipFile(path, "w") as written:
        for value, place in enumerate(places):
            written.writestr(place, png(value))
    content = path.read_bytes()
    for place, name in zip(places, names, strict=True):
        assert len(place) == len(name.encode(encoding))
        content = content.replace(place.encode(), name.encode(encoding))
    path.write_bytes(content)
    return f"folder:{path}"


@pytest.mark.parametrize(
    ("encoding", "names"),
    [
        ("gbk", ("猫咪图片/1.png", "小狗《二》/1.png")),
        ("gbk", ("猫咪咪咪/1.png", "狗狗狗狗/1.png")),
        ("shift_jis", ("ねこの写真/1.png", "いぬの写真/1.png")),
        ("euc_kr", ("고양이사진/1.png", "강아지사진/1.png")),
        ("big5", ("貓咪的照片/1.png", "小狗與主人/1.png")),
        ("cp866", ("кошки и коты/1.png", "Собаки/1.png")),
        ("cp1251", ("кошки и коты/1.png", "Собаки/1.png")),
        ("utf-8", ("猫咪/1.png", "小狗/1.png")),
        ("cp437", ("pêches/1.png", "bébés été/1.png")),
    ],
)
def test_the_encoding_that_fits_all_names_is_found_and_said(tmp_path, encoding, names):
    dataset = load_dataset(archive(tmp_path / "a.zip", encoding, *names))
    assert set(dataset.class_names) == {name.partition("/")[0] for name in names}
    [said] = dataset.notes
    assert said.startswith(f"names in {tmp_path}/a.zip are read as {encoding}, one as ")
    assert dataset.read(0).shape == (2, 3, 3)


def test_names_that_fit_no_encoding_are_refused_and_one_can_be_given(tmp_path):
    word = archive(tmp_path / "a.zip", "cp437", "▓▒░▓▒░▓▒░/1.png", "╔══╗═══╗═/1.png")
    assert refusal(word).endswith(
        "expected --zip-encoding with the encoding of the machine that made it, for example --zip-encoding gbk"
    )
    dataset = load_dataset(word, options=ReadOptions(zip_encoding="cp437"))
    assert dataset.class_names == ("╔══╗═══╗═", "▓▒░▓▒░▓▒░")
    assert dataset.notes == ()


def test_an_encoding_that_does_not_fit_is_refused(tmp_path):
    word = archive(tmp_path / "a.zip", "gbk", "猫咪图片/1.png", "小狗图片/1.png")
    assert ", which are not ascii; expected --zip-encoding " in refusal(word, options=ReadOptions(zip_encoding="ascii"))


def test_marked_names_are_taken_as_they_are(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as written:
        for name in ("猫/1.png", "狗/1.png"):
            written.writestr(name, png(0))
    dataset = load_dataset(f"folder:{tmp_path}/a.zip")
    assert dataset.class_names == ("狗", "猫")
    assert dataset.notes == ()
