"""Exported models in small, made without a network of torch: a grid of boxes whose scores are colours of the image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

CLASSES = ("cat", "dog", "cow")
SIZE = 64
METADATA = {
    "names": "{0: 'cat', 1: 'dog', 2: 'cow'}",
    "imgsz": f"[{SIZE}, {SIZE}]",
    "stride": "32",
    "task": "detect",
    "end2end": "False",
}
FLOAT, HALF, BYTE = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8


def raw(
    *,
    batch: int | str = "batch",
    side: int | str = SIZE,
    kind: int = FLOAT,
    metadata: dict[str, str] | None = None,
    scale: float = 1.0,
    channels_last: bool = False,
    change: Callable[[Any], None] = lambda _: None,
) -> bytes:
    """An ONNX file with Ultralytics' raw output (B, 4 + 3, cells): a box of 20 px in each cell of 16, scored by colour.

    Args:
        batch: of the input; a text for any.
        side: of the input.
        kind: of the input's values; bytes are divided by 255 inside.
        metadata: of the file.
        scale: of the scores.
        channels_last: of the input.
        change: what is done to the model before it is written.
    """
    nodes, start = [], "images"
    if channels_last:
        nodes.append(helper.make_node("Transpose", ["images"], ["channels_first"], perm=[0, 3, 1, 2]))
        start = "channels_first"
    if kind != FLOAT:
        nodes.append(helper.make_node("Cast", [start], ["floats"], to=FLOAT))
        start = "floats"
    if kind == BYTE:
        nodes.append(helper.make_node("Div", ["floats", "full"], ["unit"]))
        start = "unit"
    nodes += [
        helper.make_node("AveragePool", [start], ["colours"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Mul", ["colours", "scale"], ["scores"]),
        helper.make_node("Reshape", ["scores", "flat"], ["cells"]),
        helper.make_node("Shape", ["cells"], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["count"]),
        helper.make_node("Gather", ["shape", "zero"], ["images_here"]),
        helper.make_node("Range", ["zero", "count", "one"], ["place"]),
        helper.make_node("Cast", ["place"], ["x"], to=FLOAT),
        helper.make_node("Mul", ["x", "step"], ["y"]),
        helper.make_node("Unsqueeze", ["y", "first"], ["row"]),
        helper.make_node("Mul", ["row", "ones"], ["centres"]),
        helper.make_node("Add", ["centres", "offsets"], ["boxes"]),
        helper.make_node("Unsqueeze", ["boxes", "first"], ["one_image"]),
        helper.make_node("Concat", ["images_here_1", "four", "count_1"], ["whole"], axis=0),
        helper.make_node("Unsqueeze", ["count", "first"], ["count_1"]),
        helper.make_node("Unsqueeze", ["images_here", "first"], ["images_here_1"]),
        helper.make_node("Expand", ["one_image", "whole"], ["all_boxes"]),
        helper.make_node("Concat", ["all_boxes", "cells"], ["output0"], axis=1),
    ]
    constants = {
        "full": np.float32(255),
        "scale": np.float32(scale),
        "flat": np.array([0, 3, -1], np.int64),
        "zero": np.int64(0),
        "one": np.int64(1),
        "two": np.int64(2),
        "first": np.array([0], np.int64),
        "four": np.array([4], np.int64),
        "step": np.float32(SIZE / 20),
        "ones": np.array([[1], [1], [0], [0]], np.float32),
        "offsets": np.array([[8], [8], [20], [20]], np.float32),
    }
    graph = helper.make_graph(
        _ordered(nodes),
        "small",
        [
            helper.make_tensor_value_info(
                "images", kind, [batch, side, side, 3] if channels_last else [batch, 3, side, side]
            )
        ],
        [helper.make_tensor_value_info("output0", FLOAT, [batch, 7, None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return finish(graph, METADATA if metadata is None else metadata, change)


def constant_outputs(
    outputs: Sequence[tuple[str, Any]], metadata: dict[str, str] | None = None, side: int = SIZE
) -> bytes:
    """An ONNX file that puts out the same arrays for every image, through a sum with nought of its pixels."""
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nothing"], ["nought"]),
    ]
    constants, infos = [numpy_helper.from_array(np.array(0, np.float32), "nothing")], []
    for name, value in outputs:
        array = np.asarray(value)
        constants.append(numpy_helper.from_array(array, f"{name}_values"))
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        if kind == FLOAT:
            nodes.append(helper.make_node("Add", [f"{name}_values", "nought"], [name]))
        else:
            nodes.append(helper.make_node("Identity", [f"{name}_values"], [name]))
        infos.append(helper.make_tensor_value_info(name, kind, array.shape))
    image = helper.make_tensor_value_info("images", FLOAT, [1, 3, side, side])
    return finish(helper.make_graph(nodes, "constant", [image], infos, constants), metadata or {})


def finish(graph: Any, metadata: dict[str, str], change: Callable[[Any], None] = lambda _: None) -> bytes:
    """A graph as the bytes of an ONNX file."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    change(model)
    found: bytes = model.SerializeToString()
    return found


def graph_of(nodes: Sequence[Any], constants: dict[str, Any], batch: int | str = 1) -> Any:
    """A graph from images to `output0`."""
    return helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info("images", FLOAT, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("output0", FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )


def openvino_folder(path: Path, data: bytes | None = None, metadata: dict[str, str] | None = None) -> Path:
    """The small model as an OpenVINO folder."""
    import openvino
    import yaml

    path.mkdir()
    model = openvino.Core().read_model(data or raw(batch=1, metadata={}))
    openvino.save_model(model, path / "model.xml", compress_to_fp16=False)
    (path / "metadata.yaml").write_text(yaml.safe_dump(METADATA if metadata is None else metadata))
    return path


def _ordered(nodes: Sequence[Any]) -> list[Any]:
    """Nodes such that each comes after those whose outputs it takes."""
    made = {name for node in nodes for name in node.output}
    left, done, ordered = list(nodes), set[str](), list[Any]()
    while left:
        ready = [node for node in left if not (set(node.input) & made) - done]
        assert ready
        ordered += ready
        done.update(name for node in ready for name in node.output)
        left = [node for node in left if node not in ready]
    return ordered
