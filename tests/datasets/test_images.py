"""Every kind of image file becomes uint8 RGB or a clear error."""

import os
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import ultralytics  # noqa: F401  (it replaces Pillow's `open`, as in every real run)
from numpy.typing import NDArray
from PIL import Image as Pillow

from robustbench_sgdm.datasets import Image, images
from robustbench_sgdm.errors import DataError


@pytest.fixture
def picture(photographs: list[NDArray[np.uint8]]) -> Pillow.Image:
    return Pillow.fromarray(photographs[2][:60, :90])


def read(path: Path, width: int = 90, height: int = 60) -> NDArray[np.uint8]:
    return images.read(Image(1, path, width, height))


def test_rgb_png_is_read_exactly(tmp_path: Path, picture: Pillow.Image) -> None:
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), np.asarray(picture))


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "1"])
def test_other_modes_become_rgb(tmp_path: Path, picture: Pillow.Image, mode: str) -> None:
    picture.convert("RGB").convert(mode if mode != "LA" else "L").convert(mode).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png")
    assert found.shape == (60, 90, 3) and found.dtype == np.uint8
    expected = np.asarray(Pillow.open(tmp_path / "a.png").convert("RGB"))
    np.testing.assert_array_equal(found, expected)


def test_cmyk_jpeg_is_near_its_rgb(tmp_path: Path, picture: Pillow.Image) -> None:
    picture.convert("CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - np.asarray(picture)).mean() < 3


def test_sixteen_bits_keep_their_upper_eight(tmp_path: Path) -> None:
    grey = np.arange(60 * 90, dtype=np.uint16).reshape(60, 90) * 12
    Pillow.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[:, :, 1], grey >> 8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_opencv_does(
    tmp_path: Path, picture: Pillow.Image, orientation: int
) -> None:
    import cv2

    exif = Pillow.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    width, height = (60, 90) if orientation >= 5 else (90, 60)
    assert images.size(tmp_path / "a.jpg") == (width, height)
    reference = np.asarray(cv2.imread(str(tmp_path / "a.jpg")))[:, :, ::-1]
    found = read(tmp_path / "a.jpg", width, height)
    assert np.abs(found.astype(int) - reference).max() <= 3  # decoders round differently


def test_annotations_made_on_the_unrotated_picture_keep_it(tmp_path: Path, picture: Pillow.Image) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "a.png", 90, 60), np.asarray(picture))


def test_one_pixel(tmp_path: Path) -> None:
    Pillow.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png", 1, 1).tolist() == [[[1, 2, 3]]]


def test_bad_files_say_which_and_what_to_do(tmp_path: Path, picture: Pillow.Image) -> None:
    picture.save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    Pillow.fromarray(np.zeros((60, 90), np.float32)).save(tmp_path / "float.tiff")
    why = {
        "truncated.jpg": "cannot be decoded",
        "text.jpg": "is no picture",
        "empty.png": "is empty",
        "float.tiff": "cannot be decoded",
    }
    for name, what in why.items():
        with pytest.raises(DataError, match=rf"{name} {what}.*replace the file"):
            read(tmp_path / name)
    with pytest.raises(DataError, match=r"text\.jpg is no picture"):
        images.size(tmp_path / "text.jpg")
    with pytest.raises(DataError, match=r"absent\.jpg does not exist.*--images"):
        read(tmp_path / "absent.jpg")
    with pytest.raises(DataError, match="is 90 x 60 px but annotated as 91 x 60"):
        read(tmp_path / "whole.jpg", 91)


def test_a_decompression_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Pillow.Image
) -> None:
    picture.save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MOST_PIXELS", 1000)
    with pytest.raises(DataError, match="90 x 60 is more than 1,000 pixels"):
        read(tmp_path / "a.png")


def test_the_size_of_a_bomb_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Pillow.Image
) -> None:
    picture.save(tmp_path / "a.png")
    assert images.size(tmp_path / "a.png") == (90, 60)
    bomb = bytearray((tmp_path / "a.png").read_bytes())
    bomb[16:24] = (50_000).to_bytes(4, "big") * 2  # its header alone: nothing is decoded to find out
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(bomb)
    for look in (
        images.size,
        lambda path: images.read(Image(1, path, 90, 60)),
        lambda p: images.decode(p.read_bytes()),
    ):
        with pytest.raises(DataError, match="pixels"):
            look(tmp_path / "a.png")


def test_no_program_is_handed_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow reads EPS by Ghostscript, whatever the file is called."""
    ran: list[object] = []
    monkeypatch.setattr(subprocess, "check_call", lambda *a, **k: ran.append(a))
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    for look in (images.size, lambda path: read(path, 9, 9), lambda path: images.decode(path.read_bytes())):
        with pytest.raises(DataError):
            look(tmp_path / "a.png")
    assert not ran


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="no file"):
        read(tmp_path / "a.png")
