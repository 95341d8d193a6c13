"""Which images a command line names, and what it says of those that nothing reads."""

import pytest

from thaw.features.errors import InputError
from thaw.pipeline.inference.inputs import list_images

from tests.builders.images import folder


def test_every_image_by_its_ending_is_named_and_nothing_else(tmp_path):
    folder(tmp_path, "a.JPG", "b/c.heic", "b/d.dcm", "b/e.avif", "b/notes.txt", ".hidden.png")
    found = [path.relative_to(tmp_path).as_posix() for path in list_images([str(tmp_path)], [])]
    assert found == ["a.JPG", "b/c.heic", "b/d.dcm", "b/e.avif"]


def test_a_url_is_not_fetched():
    with pytest.raises(InputError) as refused:
        next(list_images(["https://example.org/a.jpg"], []))
    assert str(refused.value) == (
        "https://example.org/a.jpg is a URL, which is not fetched here; expected a file, a folder or a pattern: "
        "download it "
        "first"
    )
