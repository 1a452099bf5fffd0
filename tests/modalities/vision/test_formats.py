"""Pillow opens the formats of a list, whatever the door, and never starts a program."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

import d2v.modalities.vision
from d2v.data.ingest import Rejected
from d2v.errors import DataError
from d2v.modalities.requests import Limits
from d2v.modalities.vision import raw_inputs
from d2v.modalities.vision.config import VisionIngestConfig
from d2v.modalities.vision.preview import preview
from d2v.modalities.vision.reading import FORMATS, decode, open_image, read_image
from d2v.modalities.vision.sources import open_source
from tests.fuzzing.files import IMAGES, image_file

CONFIG = VisionIngestConfig(source="")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 8 8 rectfill\nshowpage\n%%EOF\n"


@pytest.fixture(autouse=True)
def _program_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ghostscript is what Pillow starts for EPS."""

    def started(*arguments: object, **_: object) -> None:
        raise AssertionError(f"a program was started: {arguments}")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)


def test_pillow_would_start_a_program_on_eps() -> None:
    with pytest.raises(AssertionError, match="a program was started"):
        Image.open(io.BytesIO(EPS)).load()


def test_no_door_opens_eps(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(EPS)
    with pytest.raises(Rejected, match=r"not an image of a format that is read \(JPEG, PNG"):
        read_image(EPS, CONFIG)
    for door in (decode, preview, open_image):
        with pytest.raises(UnidentifiedImageError):
            door(EPS)
    for item in (EPS, tmp_path / "a.png", Image.open(io.BytesIO(EPS))):
        with pytest.raises(DataError, match=r"not an image of a format|it is EPS, which is not decoded here"):
            raw_inputs.read_item(item)
    with pytest.raises(DataError, match="not an image of a format that is read"):
        raw_inputs.REQUEST.read({"image": EPS}, Limits())


def test_an_image_that_people_have_decoded_is_taken_whatever_its_format() -> None:
    decoded = Image.new("RGB", (8, 8), (1, 2, 3))
    decoded.format = "EPS"
    assert np.array_equal(raw_inputs.read_item(decoded), np.asarray(decoded))


def test_folders_of_torchvision_open_the_same_formats(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(EPS)
    (tmp_path / "cat" / "2.png").write_bytes(image_file("PNG", 1))
    config = VisionIngestConfig(source="torchvision:ImageFolder", options={"root": str(tmp_path)})
    first, second = open_source(config).items(0)
    assert "cannot identify image file" in str(first.refused)
    assert second.label == "cat"


@pytest.mark.parametrize("form", IMAGES)
def test_formats_of_the_list_are_read(form: str) -> None:
    assert read_image(image_file(form, 1), CONFIG).facts == {"width": 16, "height": 13}


def test_formats_that_start_programs_or_read_other_files_are_not_on_the_list() -> None:
    assert not {"EPS", "PS", "WMF", "FPX", "MIC", "IPTC", "GRIB", "BUFR", "HDF5"} & set(FORMATS)


def test_pillow_is_opened_in_one_place() -> None:
    folder = Path(d2v.modalities.vision.__file__).parents[2]
    opened = [path.name for path in folder.rglob("*.py") if "Image.open(" in path.read_text()]
    assert opened == ["reading.py"]
