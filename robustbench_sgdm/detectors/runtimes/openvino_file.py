"""OpenVINO's models (an .xml and the .bin beside it) as data: parsed with bounds, refused where they could do more."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from robustbench_sgdm.core.errors import DataError
from robustbench_sgdm.core.untrusted_input import read_bytes, read_yaml, short_repr
from robustbench_sgdm.detectors.runtimes.files import MAX_BYTES, ModelFile, TensorSpec, digest, read_own
from robustbench_sgdm.detectors.runtimes.metadata import FileMetadata, parse_metadata

_MAX_XML = 16 * 2**20  # YOLOv8n takes 1 MB
_MAX_LAYERS = 50_000
_MAX_DEPTH = 30
_REFUSED = {
    **dict.fromkeys(("Loop", "TensorIterator"), "a loop, which can go on without end"),
    **dict.fromkeys(
        ("RandomUniform", "Multinomial"), "a random draw, so that no result would be the same twice"
    ),
    **dict.fromkeys(
        ("ReadValue", "Assign"), "a memory, so that an image's boxes would depend on those before it"
    ),
}
# Inputs that decide how large an operator's output is, whatever its other inputs are.
_SIZES: dict[str | None, tuple[int, ...]] = {
    "Broadcast": (1,),
    "Tile": (1,),
    "Range": (0, 1, 2),
    "Interpolate": (1, 2, 3),
    "Pad": (1, 2),
    "OneHot": (1,),
    "Eye": (0, 1, 3),
    "Col2Im": (1, 2),
}
_DTYPES = {"f32": "float32", "f16": "float16", "u8": "uint8", "f64": "float64", "i8": "int8"}
_BITS = {
    **dict.fromkeys(("f32", "i32", "u32"), 32),
    **dict.fromkeys(("f64", "i64", "u64"), 64),
    **dict.fromkeys(("f16", "bf16", "i16", "u16"), 16),
    **dict.fromkeys(("i8", "u8", "boolean", "f8e4m3", "f8e5m2", "f8e8m0"), 8),
    **dict.fromkeys(("i4", "u4", "nf4", "f4e2m1"), 4),
    **{"u1": 1, "u2": 2, "u3": 3, "u6": 6},
}


def find_xml(path: Path) -> Path:
    """The .xml of a folder, or the path if it is a file.

    Raises:
        DataError: the folder holds none, or several.
    """
    if not path.is_dir():
        return path
    found = sorted(path.glob("*.xml"))
    if len(found) != 1:
        raise DataError(
            f"{path} holds {len(found)} .xml files; an OpenVINO model is a folder with one .xml and its "
            ".bin: name the .xml"
        )
    return found[0]


def read_openvino(path: Path) -> ModelFile:
    """Read and check an OpenVINO model: a folder, or its .xml; nothing is loaded into a runtime.

    Raises:
        DataError: damaged, or refused; says what was found.
    """
    place = find_xml(path)
    model = read_bytes(place, _MAX_XML) if place == path else read_own(place, _MAX_XML)
    weights = read_own(place.with_suffix(".bin"), MAX_BYTES)
    try:
        image = _check(model, len(weights))
        metadata = FileMetadata()
        beside = place.parent / "metadata.yaml"  # where Ultralytics and `robustbench export` put it
        sidecar = b""
        if beside.exists() or beside.is_symlink():
            sidecar = read_own(beside)
            fields = read_yaml(beside)
            metadata = parse_metadata(fields if isinstance(fields, dict) else {})
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    except Exception as error:  # a file decides what its fields hold: any kind may come up
        raise DataError(
            f"{place}: damaged ({short_repr(str(error))}); download or export it again"
        ) from error
    return ModelFile(
        path, {"model": model, "weights": weights}, digest(model, weights, sidecar), image, metadata
    )


def _check(model: bytes, weights: int) -> TensorSpec:
    """Refuse all but a plain network. Returns the input that takes images."""
    head = model[:1000].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head.startswith((b"<?xml", b"<net")):
        raise DataError("not an OpenVINO model: it does not begin as XML")
    # Entities can stand for files, or for more and more of themselves.
    if b"<!" in model.replace(b"<!--", b""):
        raise DataError("declares a document type or entities, which no OpenVINO model does")
    depth = count = 0
    for event, element in ElementTree.iterparse(io.BytesIO(model), events=("start", "end")):
        depth += 1 if event == "start" else -1
        count += event == "start" and element.tag == "layer"
        if depth > _MAX_DEPTH or count > _MAX_LAYERS:
            raise DataError(f"has more than {_MAX_LAYERS:,} layers, or is nested deeper than {_MAX_DEPTH}")
        root = element  # the last one that ends
    for layer in root.iter("layer"):
        _check_layer(layer)
        if layer.get("type") == "Const":
            _check_constant(layer.get("name", ""), _data(layer), weights)
    for graph in root.iter():  # the whole, and the branches inside it
        _check_sizes(graph)
    images = [
        _parameter(layer.get("name", ""), _data(layer))
        for layer in root.findall("layers/layer")
        if layer.get("type") == "Parameter"
    ]
    if len(images) != 1:
        names = ", ".join(short_repr(one.name) for one in images[:6]) or "none"
        raise DataError(f"takes {len(images)} inputs ({names}); a detector here takes one, the images")
    return images[0]


def _data(layer: Any) -> Any:
    found = layer.find("data")
    return {} if found is None else found.attrib


def _check_sizes(graph: Any) -> None:
    """Refuse outputs whose size depends on pixels: what a trial took says nothing of what another image takes."""
    kinds = {layer.get("id"): layer.get("type") for layer in graph.findall("layers/layer")}
    after: dict[Any, list[tuple[Any, int]]] = {}
    for edge in graph.findall("edges/edge"):
        after.setdefault(edge.get("from-layer"), []).append((edge.get("to-layer"), int(edge.get("to-port"))))
    reached = {name for name, kind in kinds.items() if kind == "Parameter"}
    waiting = list(reached)
    while waiting:
        for name, port in after.get(waiting.pop(), ()):
            if port in _SIZES.get(kinds.get(name), ()):
                raise DataError(
                    f"{kinds[name]} makes an output whose size the pixels decide, so that an image can ask "
                    "for any amount of memory; export it with sizes that do not depend on pixels"
                )
            if name not in reached and kinds.get(name) != "ShapeOf":
                reached.add(name)
                waiting.append(name)


def _check_layer(layer: Any) -> None:
    kind, version = layer.get("type", ""), layer.get("version", "")
    if not version.startswith("opset"):
        raise DataError(
            f"needs the operator {short_repr(kind)} of {short_repr(version)}, which is not OpenVINO's own, "
            "and no library of other operators is loaded; export it with standard operators"
        )
    if kind in _REFUSED:
        raise DataError(f"has {kind}, {_REFUSED[kind]}; export it without")


def _check_constant(name: str, data: Any, weights: int) -> None:
    """Hold a constant's claims against the file of weights."""
    shape = [int(side) for side in data.get("shape", "").split(",") if side.strip()]
    offset, size = int(data.get("offset", -1)), int(data.get("size", -1))
    if offset < 0 or size < 0 or offset + size > weights:
        raise DataError(
            f"the constant {short_repr(name)} takes bytes {offset:,} to {offset + size:,} of the .bin, "
            f"which has {weights:,}: cut short, or another model's"
        )
    bits = _BITS.get(data.get("element_type", ""))
    wanted = None if bits is None else -(-math.prod(shape) * bits // 8)
    if any(side < 0 for side in shape) or (wanted is not None and wanted > max(size, 8)):
        raise DataError(
            f"the constant {short_repr(name)} claims a shape of {short_repr(shape)} in {size:,} bytes"
        )


def _parameter(name: str, data: Any) -> TensorSpec:
    sides = [side.strip() for side in data.get("shape", "").split(",") if side.strip()]
    shape = tuple(int(side) if side.isdecimal() and int(side) else None for side in sides)
    return TensorSpec(name, shape, _DTYPES.get(data.get("element_type", ""), ""))
