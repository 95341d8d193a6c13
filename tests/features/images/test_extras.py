import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from thaw.features.errors import InputError
from thaw.features.images.decode import decode

from tests.builders.images import encoded

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
DICOM = bytes(128) + b"DICM" + bytes(100)


def refused(content: bytes) -> str:
    with pytest.raises(InputError) as error:
        decode(content, "a.heic")
    return str(error.value)


@pytest.mark.parametrize(
    ("content", "kind", "package"), [(HEIC, "HEIC", "pi-heif"), (DICOM, "DICOM", "pydicom")], ids=["heic", "dicom"]
)
def test_a_format_of_an_extra_that_is_not_installed(monkeypatch, content, kind, package):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refused(content) == (
        f"a.heic is a {kind} image, which needs the package {package}; it is not installed: type make setup "
        f"EXTRA={kind.lower()}, or pip install {package}; or convert the image to JPEG, or leave it out by --skip-bad"
    )


def test_a_damaged_heic_is_refused():
    pytest.importorskip("pi_heif", reason="the extra heic is not installed")
    assert "a.heic is damaged (" in refused(HEIC)


def test_a_heic_image_is_read():
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif, which writes HEIC, is not installed")
    pytest.importorskip("pi_heif", reason="the extra heic is not installed")
    stream = io.BytesIO()
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 10, 10))).save(stream)
    np.testing.assert_allclose(decode(stream.getvalue(), "a.heic")[24, 32], [200, 10, 10], atol=4)


def test_a_dicom_image_is_read_through_its_window():
    dicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")
    data = dicom.Dataset()
    data.file_meta = dicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = dicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = dicom.uid.SecondaryCaptureImageStorage, dicom.uid.generate_uid()
    data.Rows, data.Columns, data.SamplesPerPixel, data.PixelRepresentation = 1, 3, 1, 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PhotometricInterpretation, data.WindowCenter, data.WindowWidth = "MONOCHROME2", 100, 200
    data.PixelData = np.array([0, 100, 4000], np.uint16).tobytes()
    stream = io.BytesIO()
    dicom.dcmwrite(stream, data, enforce_file_format=True)
    np.testing.assert_allclose(decode(stream.getvalue(), "a.dcm")[0, :, 0], [0, 128, 255], atol=2)


def test_a_tiff_of_many_bands_is_refused_by_their_number():
    image = encoded(Image.new("CMYK", (4, 4)), "TIFF")
    place = image.index((277).to_bytes(2, "little") + (3).to_bytes(2, "little"))
    content = image[: place + 8] + (6).to_bytes(2, "little") + image[place + 10 :]
    assert refused(content) == (
        "a.heic is a TIFF of 6 bands; expected at most 4: choose three of them and save these, or leave it out by "
        "--skip-bad"
    )
