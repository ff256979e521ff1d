"""OpenVINO models of strangers are data: what could reach, run or grow is refused in one line."""

from pathlib import Path
from typing import Any

import pytest

from robustbench_sgdm.core import resources
from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.detectors.runtimes import load_exported

models: Any = resources.import_file(Path(__file__).with_name("models.py"))
ENTITY = b'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
LAUGHS = b'<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found: Path = models.openvino_folder(tmp_path / "m_openvino_model")
    return found


def refused(folder: Path, says: str) -> None:
    with pytest.raises(RobustBenchError, match=says) as caught:
        load_exported(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000


def test_the_folder_and_the_xml_are_the_same_model(folder: Path) -> None:
    one, two = load_exported(folder), load_exported(folder / "model.xml")
    assert one.fingerprint == two.fingerprint and one.name == "m_openvino_model"


def changed(folder: Path, old: bytes, new: bytes, count: int = 1) -> None:
    text = (folder / "model.xml").read_bytes()
    assert old in text
    (folder / "model.xml").write_bytes(text.replace(old, new, count))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b'<?xml version="1.0"?>', ENTITY, "document type or entities"),
        (b'<?xml version="1.0"?>', LAUGHS, "document type or entities"),
        (b'version="opset1"', b'version="evil"', "which is not OpenVINO's own"),
        (b'type="Reshape"', b'type="Loop"', "has Loop"),
        (b'type="Reshape"', b'type="ReadValue"', "has ReadValue, a memory"),
        (b'type="Reshape"', b'type="NoSuchThing"', "NoSuchThing"),
        (b'offset="', b'offset="99999', "takes bytes .* of the .bin"),
        (b'offset="', b'offset="-1', "takes bytes"),
        (b'size="', b'size="99999999999', "takes bytes"),
        (b"</net>", b"", "damaged"),
        (b"<layers>", b"<layers>" + b"<a>" * 100, "nested deeper"),
    ],
)
def test_changed_files(folder: Path, old: bytes, new: bytes, says: str) -> None:
    changed(folder, old, new)
    refused(folder, says)


def test_parts_that_are_missing_or_elsewhere(folder: Path, tmp_path: Path) -> None:
    weights = (folder / "model.bin").read_bytes()
    (folder / "model.bin").write_bytes(weights[:-4])
    refused(folder, "of the .bin, which has")
    (folder / "model.bin").unlink()
    refused(folder, "model.bin does not exist")
    (tmp_path / "elsewhere.bin").write_bytes(weights)
    (folder / "model.bin").symlink_to(tmp_path / "elsewhere.bin")
    refused(folder, "is a link")
    (folder / "model.bin").unlink()
    (folder / "model.bin").write_bytes(weights)
    (folder / "other.xml").write_text("<net/>")
    refused(folder, "holds 2 .xml files")


def test_metadata_of_another_kind(folder: Path) -> None:
    about = folder / "metadata.yaml"
    for text in ("!!python/object:os.system x", "[" * 1000, "names: 3", "names: {a: b}"):
        about.write_text(text)
        refused(folder, "metadata.yaml|class names")
    about.unlink()
    refused(folder, "does not name its classes")


def test_a_large_constant_is_claimed(folder: Path) -> None:
    text = (folder / "model.xml").read_text()
    place = text.index('type="Const"')
    start = text.index('shape="', place)
    end = text.index('"', start + 7)
    (folder / "model.xml").write_text(text[:start] + 'shape="100000,100000,100000' + text[end:])
    refused(folder, "claims a shape")


def test_a_pixel_does_not_choose_a_size(tmp_path: Path) -> None:
    import numpy as np
    import openvino
    from openvino import opset8 as ops

    images = ops.parameter([1, 3, 64, 64], np.float32, name="images")
    light = ops.convert(ops.reduce_max(images, np.array([0, 1, 2, 3]), keep_dims=False), "i64")
    size = ops.unsqueeze(light, np.int64(0))
    big = ops.broadcast(ops.constant(np.float32(1)), size)
    folder = tmp_path / "m_openvino_model"
    folder.mkdir()
    openvino.save_model(openvino.Model([big], [images], "m"), folder / "m.xml")
    refused(folder, "Broadcast makes an output whose size the pixels decide")


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "m_openvino_model").mkdir()
    with pytest.raises(DataError, match=r"holds 0 \.xml files"):
        load_exported(tmp_path / "m_openvino_model")
