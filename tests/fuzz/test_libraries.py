"""Models of other libraries from strangers: a folder of transformers (configs, processor, tensors)."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from robustbench_sgdm.core import resources

harness: Any = resources.import_file(Path(__file__).with_name("harness.py"))
readers: Any = resources.import_file(Path(__file__).with_name("readers.py"))
LIBRARIES = harness.BOUNDS["models of other libraries"]
SIZES = (0, 1, -1, 2, 3, 7, 64, 1000, 5000, 99_999, 100_001, 2**31, 2**63, 0.5, -1e300)
CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


def odd_numbers(value: Any, rng: random.Random) -> Any:
    """A tree with some of its numbers changed to others of any size."""
    if isinstance(value, dict):
        return {key: odd_numbers(one, rng) for key, one in value.items()}
    if isinstance(value, list):
        return [odd_numbers(one, rng) for one in value]
    return rng.choice(SIZES) if isinstance(value, int | float) and rng.random() < 0.05 else value


def odd_setting(config: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """One that makes transformers read, fetch or run something else, or that another kind of model has."""
    key, value = rng.choice(SETTINGS)
    return config | {key: value}


SETTINGS: tuple[tuple[str, Any], ...] = (
    *(
        ("model_type", kind)
        for kind in ("detr", "rt_detr", "deformable_detr", "d_fine", "bert", "timm_backbone", "vit")
    ),
    ("architectures", ["../x"]),
    ("auto_map", {"AutoModelForObjectDetection": "modeling.Evil", "AutoImageProcessor": "evil.Evil"}),
    ("quantization_config", {"quant_method": "gptq", "bits": 4}),
    ("_attn_implementation", "kernels-community/flash"),
    ("backbone", "https://example.com/x"),
    ("backbone", "resnet50"),
    ("use_pretrained_backbone", True),
    ("use_timm_backbone", True),
    ("backbone_config", {"model_type": "resnet", "depths": [99] * 4, "hidden_sizes": [90_000] * 4}),
    ("backbone_config", {"model_type": "timm_backbone", "backbone": "hf-hub:evil/x"}),
    ("dtype", "float64"),
    ("torch_dtype", "os.system"),
    ("image_processor_type", "DetrImageProcessor"),
    ("image_processor_type", "../evil.Processor"),
    ("size", {"shortest_edge": 7000, "longest_edge": 7000}),
    ("size", {"height": 7680, "width": 7680}),
    ("size", {"shortest_edge": 2048, "longest_edge": 2048}),
    ("size", 7680),
    ("do_pad", {"a": 1}),
    ("pad_size", {"height": 7680, "width": 7680}),
    ("image_mean", [1e308] * 3),
    ("image_std", [0, 0, 0]),
    ("resample", 99),
    ("rescale_factor", 1e300),
    ("id2label", {str(k): "x" for k in range(3000)}),
    ("_name_or_path", "../../etc/passwd"),
    ("num_labels", 5000),
)


def test_transformers(root: Path) -> None:
    sound, path = readers.transformers_folder(root / "sound"), root / "m"
    readers.use_transformers(sound)
    texts = {name: (sound / name).read_text() for name in (CONFIG, PROCESSOR)}
    tensors = (sound / WEIGHTS).read_bytes()

    def damage(rng: random.Random) -> Path:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(sound, path)
        name = rng.choice((CONFIG, CONFIG, CONFIG, PROCESSOR, PROCESSOR, WEIGHTS))
        if name == WEIGHTS:
            (path / name).write_bytes(harness.damaged_bytes(tensors, rng))
            if rng.random() < 0.3:
                (path / name).rename(path / "part.safetensors")
                weight_map = harness.damaged_tree(
                    {"a.weight": "part.safetensors", "b": "part.safetensors"}, rng
                )
                (path / f"{name}.index.json").write_text(json.dumps({"weight_map": weight_map}))
            return path
        content = json.loads(texts[name])
        act = rng.random()
        if act < 0.2:
            (path / name).write_text(harness.odd_json(texts[name], rng))
        elif act < 0.5:
            (path / name).write_text(json.dumps(harness.damaged_tree(content, rng)))
        else:
            changed = odd_numbers(content, rng) if act < 0.75 else odd_setting(content, rng)
            (path / name).write_text(json.dumps(changed))
        return path

    harness.fuzz("transformers", root, damage, readers.use_transformers, LIBRARIES)
