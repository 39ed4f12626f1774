"""The golden loss curve. After a change that is meant to alter results, write it anew:  python tests/support/golden_curve.py"""

from dataclasses import replace
from pathlib import Path

import torch
from networks import TINY
from toys import CPU, KEY, MemoryFeatures

from invad.config import InvADConfig
from invad.devices import place
from invad.features.batches import BatchSource
from invad.files import write_text
from invad.methods import build_method
from invad.training.loop import Trainer

GOLDEN = Path(__file__).parents[1] / "golden" / "invad_loss.txt"
# Ten steps; the last two with a tenth of the learning rate.
RECIPE = InvADConfig(epochs=5, batch_size=4, style_channels=16, latent_channels=8, blocks=2)
IMAGES = 8


def loss_curve(config: InvADConfig = RECIPE, images: int = IMAGES) -> list[float]:
    """Return the losses of a tiny network that the stage's own `Trainer` trains on random features.

    In float64: Adam without momentum moves a weight by the learning rate's size even where its gradient is rounding noise (a
    bias before BatchNorm), so that in float32 machines with other convolution kernels differ by 1e-2 after ten steps.
    """
    key = replace(KEY, channels=TINY["channels"])
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(config.seed)
        method = place(build_method(key.output, config), CPU, config)
        generator = torch.Generator().manual_seed(42)
        levels = [torch.randn(images, *shape, generator=generator) for shape in key.output.shapes]
    finally:
        torch.set_default_dtype(torch.float32)
    source = BatchSource(MemoryFeatures(levels, key), method.needs)
    return [step.loss for step in Trainer(method, source, config).steps()]


if __name__ == "__main__":
    header = "# Loss of test_loss_curve_is_the_golden_one, one step a line.\n# Written by: python tests/support/golden_curve.py\n"
    write_text(GOLDEN, header + "".join(f"{loss:.6f}\n" for loss in loss_curve()))
