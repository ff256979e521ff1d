"""Every kind of image file becomes uint8 RGB or a clear error."""

import os
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ultralytics  # noqa: F401  (it replaces Pillow's `open`, as in every real run)
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.datasets import Image, image_decoding


@pytest.fixture
def picture(photographs: list[NDArray[np.uint8]]) -> Pillow.Image:
    return Pillow.fromarray(photographs[2][:60, :90])


def read(path: Path, width: int = 90, height: int = 60) -> NDArray[np.uint8]:
    return image_decoding.read_image(Image(1, path, width, height))


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


def turned(picture: Pillow.Image, path: Path, orientation: int, **how: Any) -> Path:
    """A file with an EXIF orientation, which is TIFF's own in a TIFF."""
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif, **how)
    return path


ORIENTED: dict[str, dict[str, Any]] = {
    "a.jpg": {"quality": 95},
    "a.png": {},
    "a.webp": {"lossless": True},
    "a.tif": {},
    "b.tif": {"compression": "tiff_lzw"},
    "c.tif": {"compression": "jpeg"},
    "a.mpo": {"save_all": True, "append_images": [Pillow.new("RGB", (90, 60))]},
    "a.avif": {"quality": 100},
    "a.jp2": {},
    "a.bmp": {},
    "a.gif": {},
    "a.ppm": {},
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ORIENTED)
def test_size_and_pixels_of_every_orientation_are_pillows(
    tmp_path: Path, picture: Pillow.Image, name: str, orientation: int
) -> None:
    if name.endswith(".avif") and ".avif" not in Pillow.registered_extensions():
        pytest.skip("AVIF came with Pillow 11.3")
    how = ORIENTED[name]
    path = turned(picture, tmp_path / name, orientation, **how)
    with Pillow.open(path) as file:
        expected = np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    header = image_decoding.read_header(path)
    assert image_decoding.read_header(path).upright == header.upright == expected.shape[1::-1]
    np.testing.assert_array_equal(read(path, *header.upright), expected)
    np.testing.assert_array_equal(image_decoding.decode_image(path.read_bytes()), expected)
    first = turned(picture, tmp_path / f"first{path.suffix}", 1, **how)
    stored = image_decoding.read_image(Image(1, path, *header.stored, upright=False))
    assert header.stored == (90, 60)
    np.testing.assert_array_equal(stored, read(first))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.mpo", "a.tif", "a.jp2", "a.bmp"])
def test_exif_orientation_is_applied_as_opencv_does(
    tmp_path: Path, picture: Pillow.Image, name: str, orientation: int
) -> None:
    import cv2

    how = ORIENTED[name]
    path = turned(picture, tmp_path / name, orientation, **how)
    reference = np.asarray(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR))[:, :, ::-1]
    found = read(path, *image_decoding.read_header(path).upright)
    assert found.shape == reference.shape
    assert np.abs(found.astype(int) - reference).max() <= 3  # decoders round differently


def test_exif_behind_the_pixels_of_a_png_counts(tmp_path: Path, picture: Pillow.Image) -> None:
    data = turned(picture, tmp_path / "a.png", 6).read_bytes()
    at = data.index(b"eXIf") - 4
    chunk = data[at : at + 12 + int.from_bytes(data[at : at + 4], "big")]
    rest = data.replace(chunk, b"")
    (tmp_path / "a.png").write_bytes(rest[:-12] + chunk + rest[-12:])
    assert image_decoding.read_header(tmp_path / "a.png").upright == (60, 90)
    assert np.array_equal(read(tmp_path / "a.png", 60, 90), np.rot90(np.asarray(picture), -1))
    assert image_decoding.decode_image((tmp_path / "a.png").read_bytes()).shape == (90, 60, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x" * 100]
)
def test_exif_that_cannot_be_parsed_turns_nothing(tmp_path: Path, picture: Pillow.Image, exif: bytes) -> None:
    for name in ("a.jpg", "a.png", "a.webp"):
        picture.save(tmp_path / name, exif=exif)
        assert image_decoding.read_header(tmp_path / name).upright == (90, 60)
        assert read(tmp_path / name).shape == (60, 90, 3)


def test_an_editors_xmp_turns_nothing_as_with_opencv(tmp_path: Path, picture: Pillow.Image) -> None:
    import cv2

    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    picture.save(tmp_path / "a.jpg", xmp=xmp)
    assert np.asarray(cv2.imread(str(tmp_path / "a.jpg"))).shape == (60, 90, 3)
    assert image_decoding.read_header(tmp_path / "a.jpg").upright == (90, 60) and read(
        tmp_path / "a.jpg"
    ).shape == (
        60,
        90,
        3,
    )


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
        "text.jpg": "is not an image",
        "empty.png": "is empty",
        "float.tiff": "cannot be decoded",
    }
    for name, what in why.items():
        with pytest.raises(DataError, match=rf"{name} {what}.*replace the file"):
            read(tmp_path / name)
    with pytest.raises(DataError, match=r"text\.jpg is not an image"):
        image_decoding.read_header(tmp_path / "text.jpg")
    with pytest.raises(DataError, match=r"absent\.jpg does not exist.*--images"):
        read(tmp_path / "absent.jpg")
    with pytest.raises(DataError, match="is 90 x 60 px but annotated as 91 x 60"):
        read(tmp_path / "whole.jpg", 91)


def test_a_decompression_bomb_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Pillow.Image
) -> None:
    picture.save(tmp_path / "a.png")
    monkeypatch.setattr(image_decoding, "MAX_PIXELS", 1000)
    with pytest.raises(DataError, match="90 x 60 is more than 1,000 pixels"):
        read(tmp_path / "a.png")


def test_the_size_of_a_bomb_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Pillow.Image
) -> None:
    picture.save(tmp_path / "a.png")
    assert image_decoding.read_header(tmp_path / "a.png").upright == (90, 60)
    bomb = bytearray((tmp_path / "a.png").read_bytes())
    bomb[16:24] = (50_000).to_bytes(4, "big") * 2  # its header alone: nothing is decoded to find out
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(bomb)
    for look in (
        image_decoding.read_header,
        lambda path: image_decoding.read_image(Image(1, path, 90, 60)),
        lambda p: image_decoding.decode_image(p.read_bytes()),
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
    for look in (
        image_decoding.read_header,
        lambda path: read(path, 9, 9),
        lambda path: image_decoding.decode_image(path.read_bytes()),
    ):
        with pytest.raises(DataError):
            look(tmp_path / "a.png")
    assert not ran


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="no file"):
        read(tmp_path / "a.png")
