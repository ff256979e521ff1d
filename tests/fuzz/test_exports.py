"""Exported models from strangers: ONNX as protobuf with odd operators, shapes and tensors; OpenVINO as XML."""

import random
import re
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from robustbench_sgdm.core import resources

harness: Any = resources.import_file(Path(__file__).with_name("harness.py"))
readers: Any = resources.import_file(Path(__file__).with_name("readers.py"))
EXPORTS = harness.BOUNDS["exported models"]
KINDS = [schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""]
SIZES = (0, 1, -1, 2, 3, 64, 1000, 2**16, 2**31 - 1, 2**40, -(2**63))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def odd_graph(model: Any, rng: random.Random) -> None:
    """Another operator, input, number, shape or type somewhere in a graph."""
    graph = model.graph
    node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
    names = [name for one in graph.node for name in (*one.input, *one.output)]
    act = rng.randint(0, 9)
    if act == 0:
        node.op_type = rng.choice(KINDS)
    elif act == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif act == 2:
        node.attribute.append(
            helper.make_attribute(rng.choice(("axis", "to", "value", "pads")), rng.choice(SIZES))
        )
    elif act == 3:
        tensor.dims.append(rng.choice(SIZES))
    elif act == 4:
        tensor.data_type = rng.randint(-1, 30)
    elif act == 5 and tensor.raw_data:
        tensor.raw_data = rng.choice(SIZES).to_bytes(8, "little", signed=True)[: len(tensor.raw_data)] * (
            len(tensor.raw_data) // 8 or 1
        )
    elif act == 6:
        tensor.external_data.add(
            key="location", value=rng.choice(("../x", "/etc/passwd", "x", "m.onnx", "\0"))
        )
        tensor.data_location = 1
    elif act == 7:
        sides = graph.input[0].type.tensor_type.shape.dim
        rng.choice(sides).dim_value = rng.choice(SIZES)
    elif act == 8:
        rng.choice(model.metadata_props).value = str(harness.weird(rng)).encode("utf-8", "replace").decode()
    else:
        graph.node.insert(
            rng.randrange(len(graph.node)),
            helper.make_node(rng.choice(KINDS), [rng.choice(names)], [rng.choice(names)]),
        )


def test_onnx(root: Path) -> None:
    path, sound = root / "m.onnx", readers.onnx_model()
    path.write_bytes(sound)
    readers.use_export(path)

    def damage(rng: random.Random) -> Path:
        if rng.random() < 0.3:
            path.write_bytes(harness.damaged_bytes(sound, rng))
        else:
            model = onnx.load_model_from_string(sound)
            for _ in range(rng.choice((1, 1, 2, 5))):
                odd_graph(model, rng)
            path.write_bytes(model.SerializeToString())
        return path

    harness.fuzz("onnx", root, damage, readers.use_export, EXPORTS)


def test_openvino(root: Path) -> None:
    folder = readers.openvino_model(root / "sound")
    readers.use_export(folder)
    path = root / "m_openvino_model"
    text = (folder / "model.xml").read_text()
    numbers = list(re.finditer(r"(?<=[\">,])-?\d+(?=[\"<,])", text))
    types = list(re.finditer(r'(?<=type=")\w+(?=")', text))

    def damage(rng: random.Random) -> Path:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(folder, path)
        if rng.random() < 0.3:
            name = rng.choice(("model.xml", "model.bin", "metadata.yaml"))
            (path / name).write_bytes(harness.damaged_bytes((path / name).read_bytes(), rng))
        else:
            place = rng.choice(numbers if rng.random() < 0.7 else types)
            other = str(rng.choice(SIZES)) if place[0].lstrip("-").isdigit() else rng.choice(types)[0]
            (path / "model.xml").write_text(text[: place.start()] + other + text[place.end() :])
        return path

    harness.fuzz("openvino", root, damage, readers.use_export, EXPORTS)
