"""Restored BatchNorm statistics change nothing in evaluation and little in training."""

import torch

from robustbench_sgdm.detectors.ultralytics import zoo
from robustbench_sgdm.training.batchnorm import restore_statistics


def test_the_function_stays_and_training_mode_comes_near_it() -> None:
    generator = torch.Generator().manual_seed(0)
    model = zoo.build_model("yolov8n-sgdm", 2, gamma=0.5).eval()
    x = torch.rand(8, 3, 64, 64, generator=generator)
    layer = next(iter(model.get_submodule("model").children()))
    with torch.no_grad():
        before, first = model(x)[0], layer(x)
        count = restore_statistics(model, [x[:5], x[5:]])
        after = model(x)[0]
        trained = layer.train()(x)  # the batch's own statistics are now the stored ones
    assert count > 50
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(trained, first, rtol=1e-3, atol=1e-3)
