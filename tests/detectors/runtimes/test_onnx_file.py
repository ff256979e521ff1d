"""ONNX files of strangers are data: what could reach, run or grow is refused in one line, before it is loaded."""

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from robustbench_sgdm.config import InferenceConfig
from robustbench_sgdm.core import resources
from robustbench_sgdm.core.errors import DataError, RobustBenchError
from robustbench_sgdm.detectors.runtimes import load_exported, trial
from robustbench_sgdm.detectors.runtimes.onnx_file import read_onnx

models: Any = resources.import_file(Path(__file__).with_name("models.py"))


def refused(path: Path, data: bytes, says: str) -> None:
    path.write_bytes(data)
    with pytest.raises(RobustBenchError, match=says) as caught:
        load_exported(path, InferenceConfig(classes=models.CLASSES))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(models.raw())
    file = read_onnx(tmp_path / "m.onnx")
    assert file.image.shape == (None, 3, 64, 64) and file.metadata.classes == models.CLASSES
    assert file.contents["model"] == models.raw()


@pytest.mark.parametrize("length", [0, 1, 10, 200, -1])
def test_a_truncated_file(tmp_path: Path, length: int) -> None:
    refused(tmp_path / "m.onnx", models.raw()[:length], "m.onnx: ")


@pytest.mark.parametrize("data", [b"PK\x03\x04 a zip", b"{}", b"\0" * 100, b"\xff" * 1000])
def test_another_kind_of_file(tmp_path: Path, data: bytes) -> None:
    refused(tmp_path / "m.onnx", data, "not an ONNX file|cut short")


def grown(*nodes: Any, **constants: Any) -> bytes:
    """A model whose first operators are these; the last one's output `big` joins the image."""
    tail = [
        helper.make_node("ReduceMax", ["big"], ["most"], keepdims=0),
        helper.make_node("ReduceMax", ["images"], ["light"], keepdims=0),
        helper.make_node("Add", ["most", "light"], ["output0"]),
    ]
    graph = models.graph_of([*nodes, *tail], constants)
    data: bytes = models.finish(graph, models.METADATA)
    return data


LARGE = np.array([2**17, 2**17], np.int64)


@pytest.mark.parametrize(
    "data",
    [
        lambda: grown(helper.make_node("ConstantOfShape", ["n"], ["big"]), n=LARGE),
        lambda: grown(helper.make_node("Expand", ["v", "n"], ["big"]), v=np.float32(1), n=LARGE),
        lambda: grown(helper.make_node("Tile", ["v", "n"], ["big"]), v=np.ones((1, 1), np.float32), n=LARGE),
        lambda: grown(
            helper.make_node("Resize", ["images", "", "n"], ["big"]), n=np.array([1, 1, 4e3, 4e3], np.float32)
        ),
        lambda: grown(
            helper.make_node("Pad", ["images", "n"], ["big"]),
            n=np.array([0, 0, 0, 0, 0, 0, 2**17, 2**17], np.int64),
        ),
        lambda: grown(
            helper.make_node("Range", ["a", "b", "c"], ["big"]),
            a=np.float32(0),
            b=np.float32(2**34),
            c=np.float32(1),
        ),
        lambda: grown(
            helper.make_node("ConstantOfShape", ["n"], ["o"]),
            helper.make_node("MatMul", ["o", "p"], ["big"]),
            n=np.array([2**16, 1], np.int64),
            p=np.ones((1, 2**16), np.float32),
        ),
        lambda: grown(*doubling(40), v=np.ones(16, np.float32)),
    ],
    ids=["ConstantOfShape", "Expand", "Tile", "Resize", "Pad", "Range", "outer product", "doubling"],
)
def test_small_files_that_ask_for_much_memory(tmp_path: Path, data: Any) -> None:
    began = time.perf_counter()
    refused(
        tmp_path / "m.onnx",
        data(),
        "(?i)alloc|more than|memory|ends the process|too large|overflow|exceeds|size",
    )
    assert time.perf_counter() - began < 30 * trial._WALL


def doubling(times: int) -> list[Any]:
    """Concat of a value with itself, again and again."""
    names = ["v", *(f"v{n}" for n in range(times - 1)), "big"]
    return [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in pairwise(names)]


def test_small_files_that_ask_for_much_time(tmp_path: Path) -> None:
    size = np.array([4096, 4096], np.int64)
    products = [
        helper.make_node("MatMul", ["a" if n == 0 else f"a{n}", "a"], [f"a{n + 1}"]) for n in range(200)
    ]
    last = helper.make_node("Identity", ["a200"], ["big"])
    refused(
        tmp_path / "m.onnx",
        grown(helper.make_node("ConstantOfShape", ["n"], ["a"]), *products, last, n=size),
        "takes more than .* s",
    )


@pytest.mark.parametrize("kind", ["Loop", "Scan", "RandomNormalLike", "Multinomial"])
def test_loops_and_draws(tmp_path: Path, kind: str) -> None:
    refused(
        tmp_path / "m.onnx",
        grown(helper.make_node(kind, ["images"], ["big"])),
        f"has {kind}, a (loop|random)",
    )


@pytest.mark.parametrize(
    ("domain", "operator"),
    [
        ("evil", "Anything"),
        ("com.microsoft", "EPContext"),
        ("com.microsoft", "PythonOp"),
        ("ai.onnx.contrib", "X"),
    ],
)
def test_operators_of_others(tmp_path: Path, domain: str, operator: str) -> None:
    data = grown(helper.make_node(operator, ["images"], ["big"], domain=domain))
    refused(tmp_path / "m.onnx", data, f"needs the operator '{operator}'")


def test_loops_inside_a_branch_and_inside_a_function(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Loop", ["", ""], ["x"])],
        "inner",
        [],
        [helper.make_tensor_value_info("x", 1, None)],
    )
    data = grown(
        helper.make_node("If", ["yes"], ["big"], then_branch=inner, else_branch=inner), yes=np.bool_(True)
    )
    refused(tmp_path / "m.onnx", data, "has Loop")

    def put(model: Any) -> None:
        opsets = [helper.make_opsetid("", 18)]
        node = helper.make_node("Loop", ["", "", "x"], ["y"])
        model.functions.append(helper.make_function("mine", "F", ["x"], ["y"], [node], opsets))

    refused(tmp_path / "m.onnx", models.raw(change=put), "has Loop")


def test_functions_that_multiply(tmp_path: Path) -> None:
    def put(model: Any) -> None:
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
        for n in range(40):
            domain, name = ("mine", f"F{n + 1}") if n < 39 else ("", "Identity")
            nodes = [
                helper.make_node(name, ["x"], ["z"], domain=domain),
                helper.make_node(name, ["z"], ["y"], domain=domain),
            ]
            model.functions.append(helper.make_function("mine", f"F{n}", ["x"], ["y"], nodes, opsets))
        model.graph.node.append(helper.make_node("F0", ["images"], ["unused"], domain="mine"))

    refused(tmp_path / "m.onnx", models.raw(change=put), "more than 50,000 operators")


def test_functions_that_call_themselves(tmp_path: Path) -> None:
    def put(model: Any) -> None:
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
        node = helper.make_node("F", ["x"], ["y"], domain="mine")
        model.functions.append(helper.make_function("mine", "F", ["x"], ["y"], [node], opsets))
        model.graph.node.append(helper.make_node("F", ["images"], ["unused"], domain="mine"))

    refused(tmp_path / "m.onnx", models.raw(change=put), "m.onnx: ")


def test_a_pixel_does_not_choose_a_size(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["light"], keepdims=0),
        helper.make_node("Mul", ["light", "k"], ["more"]),
        helper.make_node("Cast", ["more"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["whole", "first"], ["n"]),
        helper.make_node("ConstantOfShape", ["n"], ["big"]),
    ]
    data = grown(*nodes, k=np.float32(10), first=np.array([0], np.int64))
    refused(tmp_path / "m.onnx", data, "ConstantOfShape .* whose size the pixels decide")


def claims(change: Any) -> bytes:
    data: bytes = models.raw(change=lambda model: change(model.graph.initializer[1]))
    return data


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: tensor.dims.extend([2**40]),
        lambda tensor: tensor.dims.extend([2**62, 2**62]),
        lambda tensor: tensor.dims.extend([-1]),
        lambda tensor: setattr(tensor, "raw_data", b"12"),
        lambda tensor: setattr(tensor, "data_type", 99),
        lambda tensor: setattr(tensor, "data_type", 0),
    ],
)
def test_tensors_hold_what_they_claim(tmp_path: Path, change: Any) -> None:
    refused(tmp_path / "m.onnx", claims(change), "the tensor 'scale'|is damaged")


def external(location: str, **where: int) -> bytes:
    def put(tensor: Any) -> None:
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **where}.items():
            tensor.external_data.add(key=key, value=str(value))

    return claims(put)


def test_external_tensors_lie_in_the_files_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"1234")
    (folder / "real.bin").write_bytes(np.float32(1).tobytes() * 2)
    (folder / "link.bin").symlink_to(tmp_path / "secret")
    (folder / "behind").symlink_to(tmp_path)
    path = folder / "m.onnx"
    for location in (
        "../secret",
        str(tmp_path / "secret"),
        "a/../../secret",
        "C:\\secret",
        "",
        "\\\\host\\x",
        "a\0b",
    ):
        refused(path, external(location), "outside its folder|must lie in")
    refused(path, external("link.bin"), "is a link")
    refused(path, external("behind/secret"), "behind the link")
    refused(path, external("absent.bin"), "does not exist")
    refused(path, external("real.bin", offset=-4, length=4), "takes bytes")
    refused(path, external("real.bin", offset=6, length=4), "takes bytes")
    refused(path, external("real.bin"), "claims a shape")
    (folder / "folder.bin").mkdir()
    refused(path, external("folder.bin"), "not a regular file")
    path.write_bytes(external("real.bin", offset=4, length=4))
    assert read_onnx(path).contents["model"] != path.read_bytes()
    assert load_exported(path).classes == models.CLASSES


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda: models.raw(metadata={**models.METADATA, "task": "segment"}), "of the task 'segment'"),
        (lambda: models.raw(metadata={**models.METADATA, "names": "[" * 5000}), "class names are"),
        (lambda: models.raw(metadata={**models.METADATA, "names": "{1: 'a', 2: 'b', 3: 'c'}"}), "labels"),
        (lambda: models.raw(metadata={**models.METADATA, "names": "x" * 2**21}), "the limit is 1,048,576"),
        (
            lambda: models.raw(metadata={**models.METADATA, "names": "['a', 'b']"}),
            "with 3 class|2 classes|with 2|names",
        ),
        (lambda: models.raw(kind=TensorProto.DOUBLE), "takes images as float64"),
        (lambda: models.raw(scale=9), "scores span"),
    ],
)
def test_what_its_metadata_or_values_say(tmp_path: Path, data: Any, says: str) -> None:
    refused(tmp_path / "m.onnx", data(), says)


def test_two_inputs(tmp_path: Path) -> None:
    def put(model: Any) -> None:
        model.graph.input.append(
            helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2])
        )

    refused(tmp_path / "m.onnx", models.raw(change=put), "takes 2 inputs .*orig_target_sizes")


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ([1, 64, 64, 4], "must be \\(batch, 3, height, width\\) or \\(batch, height, width, 3\\)"),
        ([1, 64, 96, 3], "64 x 96 px; only squares"),
        ([1, 1, 64, 64], "must be \\(batch, 3"),
        ([1, 3, 64, 96], "64 x 96 px; only squares"),
        ([1, 3], "must be \\(batch, 3"),
        ([1, 3, 100_000, 100_000], "the limit is 7680"),
        ([10**6, 3, 64, 64], "batches of 1000000"),
        ([1000, 3, 7680, 7680], "batches of 1000 images of 7680 px; the limit is 1$"),  # 177 GB of noise
    ],
)
def test_inputs_that_are_no_square_pictures(tmp_path: Path, shape: list[int], says: str) -> None:
    def put(model: Any) -> None:
        value = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
        model.graph.input[0].CopyFrom(value)

    refused(tmp_path / "m.onnx", models.raw(change=put), says)


def test_an_operator_that_the_runtime_lacks(tmp_path: Path) -> None:
    refused(tmp_path / "m.onnx", grown(helper.make_node("NoSuchThing", ["images"], ["big"])), "NoSuchThing")


def test_constants_of_nodes_are_looked_at(tmp_path: Path) -> None:
    value = numpy_helper.from_array(np.ones(3, np.float32))
    value.dims[0] = 2**40
    refused(
        tmp_path / "m.onnx", grown(helper.make_node("Constant", [], ["big"], value=value)), "claims a shape"
    )


def test_a_file_is_not_named_as_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load_exported(tmp_path / "absent.onnx")
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(DataError, match=r"m\.onnx"):
        load_exported(tmp_path / "m.onnx")


def test_the_checker_of_onnx_agrees_that_the_small_model_is_one() -> None:
    onnx.checker.check_model(onnx.load_model_from_string(models.raw()))
