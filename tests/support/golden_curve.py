"""The golden loss curve. After a change that is meant to alter results, write it anew:  python tests/support/golden_curve.py"""

from pathlib import Path

import torch
from networks import TINY, random_features, seeded

from invad.files import write_text
from invad.models import reconstruction_loss

GOLDEN = Path(__file__).parents[1] / "golden" / "invad_loss.txt"


def loss_curve(steps=10):
    """Losses of a tiny network on one fixed batch of random features, with the paper's optimiser.

    In float64: Adam without momentum moves a weight by the learning rate's size even where its gradient is rounding noise (a
    bias before BatchNorm), so that in float32 machines with other convolution kernels differ by 1e-2 after ten steps.
    """
    torch.set_default_dtype(torch.float64)
    try:
        model = seeded(42, **TINY).train()
        features = random_features(model, batch=4, seed=42)
    finally:
        torch.set_default_dtype(torch.float32)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.004, betas=(0.0, 0.99))
    losses = []
    for _ in range(steps):
        loss = reconstruction_loss(features, model(features))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    header = "# Loss of test_loss_curve_is_the_golden_one, one step a line.\n# Written by: python tests/support/golden_curve.py\n"
    write_text(GOLDEN, header + "".join(f"{loss:.6f}\n" for loss in loss_curve()))
