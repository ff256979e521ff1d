"""ONNX files as data: parsed with bounds, and refused where they could reach, run or grow into something else.

What is refused: operators of other makers, loops, random draws, outputs whose size a pixel decides, tensors that claim
more than they hold, external tensors outside the file's folder or behind a link.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import read_bytes, safe_join, short_list, short_repr
from robustbench_sgdm.detectors.runtimes.files import MAX_BYTES, ModelFile, TensorSpec, digest, read_own
from robustbench_sgdm.detectors.runtimes.metadata import parse_metadata
from robustbench_sgdm.detectors.runtimes.packages import require

_MAX_NODES = 50_000  # Faster R-CNN has 2,000, a large transformer 10,000
_STANDARD = ("", "ai.onnx")
_CONTRIBUTED = "com.microsoft"  # built into ONNX Runtime; its quantiser and optimiser write these
_CONTRIBUTED_OPS = frozenset(
    [
        "Attention",
        "BiasGelu",
        "BiasSplitGelu",
        "ConvTransposeWithDynamicPads",
        "DequantizeLinear",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "EmbedLayerNormalization",
        "FastGelu",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "GatherBlockQuantized",
        "Gelu",
        "GridSample",
        "GroupNorm",
        "Inverse",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "MultiHeadAttention",
        "NhwcConv",
        "NhwcMaxPool",
        "QAttention",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearConv",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMul",
        "QLinearReduceMean",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QLinearWhere",
        "QMoE",
        "QuantizeLinear",
        "QuickGelu",
        "SimplifiedLayerNormalization",
        "SkipGroupNorm",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    ]
)
_REFUSED = {
    **dict.fromkeys(("Loop", "Scan", "SequenceMap"), "a loop, which can go on without end"),
    **dict.fromkeys(
        (
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
            "Multinomial",
            "Bernoulli",
        ),
        "a random draw, so that no result would be the same twice",
    ),
}
# Inputs that decide how large an operator's output is, whatever its other inputs are.
_SIZES = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Tile": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Pad": (1,),
    "OneHot": (1,),
    "AffineGrid": (1,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "MaxUnpool": (2,),
    "BlackmanWindow": (0,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
}
_SHAPES = ("Shape", "Size")  # what they say of a tensor is bounded as the tensor is


def read_onnx(path: Path) -> ModelFile:
    """Read and check an ONNX file with its external tensors; nothing is loaded into a runtime.

    Raises:
        DataError: damaged, or refused; says what was found.
        UsageError: the package `onnx` is missing.
    """
    onnx = require("onnx", "onnx")
    data = read_bytes(path, MAX_BYTES)
    try:
        model = onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf's DecodeError has no public name
        raise DataError(f"{path}: not an ONNX file, or damaged; download or export it again") from error
    if not model.graph.node:
        what = "is empty" if not data else "holds no network"
        raise DataError(f"{path}: {what}: not an ONNX file, or cut short; download or export it again")
    try:
        _check_nodes(model)
        if model.functions:
            model = require("onnx.inliner", "onnx").inline_local_functions(model)
        if _inline_tensors(onnx, model, path.parent) or model.functions:
            data = model.SerializeToString(deterministic=True)
        _check_sizes(model.graph, {one.name for one in model.graph.input} - _constants(model.graph))
        fields = {prop.key: prop.value for prop in model.metadata_props}
        return ModelFile(
            path, {"model": data}, digest(data), _image(onnx, model.graph), parse_metadata(fields)
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # a file decides what its fields hold: any kind may come up
        raise DataError(
            f"{path}: its graph is damaged ({short_repr(error)}); download or export it again"
        ) from error


def _check_nodes(model: Any) -> None:
    """Refuse operators that are not the standard's or do more than compute, and more of them than any detector has."""
    functions = {(one.domain, one.name): one for one in model.functions}
    held = [model.graph.node, *(one.node for one in model.functions)]

    @cache
    def written_out(key: tuple[str, str]) -> int:
        """Nodes of a function; it may call others, whose number then multiplies."""
        count = 0
        for node in _walk(functions[key].node):
            inner = (node.domain, node.op_type)
            count += written_out(inner) if inner in functions else 1
        return count

    count = 0
    for nodes in held:
        for node in _walk(nodes):
            key = (node.domain, node.op_type)
            count += written_out(key) if key in functions and nodes is model.graph.node else 1
            if count > _MAX_NODES:
                raise DataError(f"has more than {_MAX_NODES:,} operators")
            if key not in functions:
                _check_operator(node)


def _check_operator(node: Any) -> None:
    if node.domain == _CONTRIBUTED and node.op_type not in _CONTRIBUTED_OPS:
        raise DataError(
            f"needs the operator {short_repr(node.op_type)} of ONNX Runtime, which a file may not ask for: it can do "
            "more than compute; export it with standard operators"
        )
    if node.domain not in (*_STANDARD, _CONTRIBUTED):
        raise DataError(
            f"needs the operator {short_repr(node.op_type)} of {short_repr(node.domain)}, which is not "
            "ONNX's own, and no library of other operators is loaded; export it with standard operators"
        )
    if node.op_type in _REFUSED:
        raise DataError(f"has {node.op_type}, {_REFUSED[node.op_type]}; export it without")


def _walk(nodes: Any) -> Iterator[Any]:
    """Nodes, and those of the graphs inside them, before the node that holds them."""
    for node in nodes:
        for graph in _graphs(node):
            yield from _walk(graph.node)
        yield node


def _graphs(node: Any) -> list[Any]:
    found = []
    for attribute in node.attribute:
        found += [attribute.g] if attribute.HasField("g") else []
        found += list(attribute.graphs)
    return found


def _all_graphs(graph: Any) -> Iterator[Any]:
    yield graph
    for node in graph.node:
        for inner in _graphs(node):
            yield from _all_graphs(inner)


def _inline_tensors(onnx: Any, model: Any, folder: Path) -> bool:
    """Check that every tensor holds what it claims, and put those of other files into the model; whether any was."""
    total, external = 0, False
    for graph in _all_graphs(model.graph):
        if graph.sparse_initializer:
            raise DataError("has sparse tensors, which no detector has")
        tensors = list(graph.initializer)
        for node in graph.node:
            for attribute in node.attribute:
                tensors += [attribute.t] if attribute.HasField("t") else []
                tensors += list(attribute.tensors)
                if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                    raise DataError("has sparse tensors, which no detector has")
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                _read_external(onnx, tensor, folder, MAX_BYTES - total)
                external = True
            total += _check_tensor(onnx, tensor)
            if total > MAX_BYTES:
                raise DataError(f"its tensors hold more than {MAX_BYTES:,} bytes")
    return external


def _read_external(onnx: Any, tensor: Any, folder: Path, most: int) -> None:
    """Put a tensor's bytes, which lie in a file of the model's folder, into the model."""
    where = {entry.key: entry.value for entry in tensor.external_data}
    location = where.get("location", "")
    try:
        path = safe_join(folder, location)
    except ValueError as error:
        raise DataError(f"a tensor lies outside its folder: {error}") from error
    if Path(location).is_absolute() or not location:
        raise DataError(
            f"a tensor lies in {short_repr(location)}, must lie in the model's folder, named relative to it"
        )
    inner = folder
    for part in Path(location).parts[:-1]:
        inner = inner / part
        if inner.is_symlink():
            raise DataError(f"a tensor lies behind the link {inner}; links within a model are not followed")
    data = read_own(path)
    start, count = (int(where[key]) if key in where else None for key in ("offset", "length"))
    start = start or 0
    count = len(data) - start if count is None else count
    if start < 0 or count < 0 or start + count > len(data) or count > most:
        raise DataError(
            f"a tensor takes bytes {start:,} to {start + count:,} of {path.name}, which has {len(data):,}"
        )
    del tensor.external_data[:]
    tensor.data_location = onnx.TensorProto.DEFAULT
    tensor.raw_data = data[start : start + count]


def _check_tensor(onnx: Any, tensor: Any) -> int:
    """Bytes that a tensor holds, which are those that its shape says."""
    if any(side < 0 for side in tensor.dims) or len(tensor.dims) > 12:
        raise DataError(f"the tensor {short_repr(tensor.name)} has the shape {short_repr(list(tensor.dims))}")
    count = math.prod(tensor.dims)
    if tensor.data_type == onnx.TensorProto.STRING:
        if count != len(tensor.string_data):
            raise DataError(
                f"the tensor {short_repr(tensor.name)} claims {count:,} texts, not those it holds"
            )
        return sum(map(len, tensor.string_data))
    bits = _BITS.get(onnx.TensorProto.DataType.Name(tensor.data_type))
    if bits is None:
        raise DataError(
            f"the tensor {short_repr(tensor.name)} is of type {tensor.data_type}, which is unknown"
        )
    wanted: int = -(-count * bits // 8)
    fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    if tensor.HasField("raw_data"):
        fits = len(tensor.raw_data) == wanted
    else:  # complex values take two places, those of four bits half a one
        fits = any(len(field) in (count, 2 * count, -(-count // 2)) for field in fields if field or not count)
    if not fits:
        raise DataError(
            f"the tensor {short_repr(tensor.name)} claims a shape of {short_repr(list(tensor.dims))}, not "
            "what the file holds"
        )
    return wanted


_BITS = {
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 32),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64", "COMPLEX64"), 64),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("INT8", "UINT8", "BOOL"), 8),
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0"), 8),
    **dict.fromkeys(("INT4", "UINT4", "FLOAT4E2M1"), 4),
    "COMPLEX128": 128,
}


def _constants(graph: Any) -> set[str]:
    return {tensor.name for tensor in graph.initializer}


def _check_sizes(graph: Any, pixels: set[str]) -> None:
    """Refuse outputs whose size depends on pixels: what a trial took says nothing of what another image takes.

    Args:
        graph: of a model, or inside a node of one.
        pixels: names of the values that depend on the image; those that do here join them.
    """
    for node in graph.node:
        inner = _graphs(node)
        for one in inner:
            _check_sizes(one, pixels)
        for place in _SIZES.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] in pixels:
                raise DataError(
                    f"{node.op_type} {short_repr(node.name)} makes an output whose size the pixels decide, "
                    "so that an image can ask for any amount of memory; export it with sizes that do not "
                    "depend on pixels"
                )
        if node.op_type not in _SHAPES and (inner or pixels.intersection(node.input)):
            pixels.update(name for name in node.output if name)


def _image(onnx: Any, graph: Any) -> TensorSpec:
    """The one input, which takes images."""
    inputs = [one for one in graph.input if one.name not in _constants(graph)]
    if len(inputs) != 1:
        names = short_list([short_repr(one.name) for one in inputs], 6) or "none"
        raise DataError(f"takes {len(inputs)} inputs ({names}); a detector here takes one, the images")
    kind = inputs[0].type.tensor_type
    shape = tuple(
        int(side.dim_value) if side.HasField("dim_value") and side.dim_value > 0 else None
        for side in kind.shape.dim
    )
    dtype = _DTYPES.get(onnx.TensorProto.DataType.Name(kind.elem_type), "")
    return TensorSpec(inputs[0].name, shape, dtype)


_DTYPES = {"FLOAT": "float32", "FLOAT16": "float16", "UINT8": "uint8", "DOUBLE": "float64", "INT8": "int8"}
