"""The ways to compute InvAD's training step, and what there is to measure about each."""

import time
from dataclasses import dataclass, field
from typing import Any

import torch
import torch._dynamo  # torch.optim imports it when first used: 160 MB that would be counted as the network's
from hardware import peak_bytes, resident_bytes
from naive import NaiveFeatureInversion

from invad.config import ComputeConfig, InvADConfig
from invad.config.constants import STRIDES
from invad.devices import autocast, compiled, formatted, make_deterministic, place
from invad.methods.invad.network import FeatureInversion
from invad.methods.maps import reconstruction_loss

SEED = 42
MAX_GRADIENT_NORM = 5.0
RATE_PER_IMAGE = 0.001 / 8  # learning rate / batch size, as in the paper
MEGABYTE = 1e6


@dataclass(frozen=True)
class Network:
    """Channels of the encoder's levels, fine to coarse, and the recipe's numbers."""

    channels: tuple[int, ...]
    style_channels: int
    latent_channels: int
    blocks: int
    loss_weight: float


@dataclass(frozen=True)
class Variant:
    """A way to compute the training step; `label` names it in the table. `keeps_memory`: as `invad.devices.keep_memory`."""

    label: str
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    naive: bool = False
    keeps_memory: bool = True


@dataclass(frozen=True)
class Settings:
    """The same for all variants; `image_size` in pixels, a multiple of 16, `threads` of the CPU."""

    network: str
    image_size: int
    batch: int
    threads: int
    device: str


NETWORKS = {
    "invad-lite": Network((64, 128, 256), 64, 16, 4, 5.0),
    "invad": Network((256, 512, 1024), 64, 16, 2, 1.0),
    "tiny": Network((8, 12, 16), 8, 4, 1, 1.0),  # for the test
}
VARIANTS = {
    "naive": Variant("naive", ComputeConfig(channels_last=False), naive=True, keeps_memory=False),
    "naive-kept": Variant("naive, memory kept", ComputeConfig(channels_last=False), naive=True),
    "ours": Variant("ours"),
    "contiguous": Variant("ours, contiguous", ComputeConfig(channels_last=False)),
    "bfloat16": Variant("ours, bfloat16", ComputeConfig(precision="bfloat16")),
    "float16": Variant("ours, float16", ComputeConfig(precision="float16")),
    "compile": Variant("ours, compile", ComputeConfig(compile=True)),
    "bfloat16-compile": Variant("ours, bfloat16 + compile", ComputeConfig(precision="bfloat16", compile=True)),
}


class TrainingStep:
    """The training step of one variant, with the same first weights and the same batch for all of them."""

    def __init__(self, variant: Variant, settings: Settings) -> None:
        self.imported = resident_bytes()
        recipe = NETWORKS[settings.network]
        self.loss_weight = recipe.loss_weight
        self.device = torch.device(settings.device)
        self.compute = variant.compute
        torch.set_num_threads(settings.threads)
        make_deterministic(SEED, self.device)
        network = _network(variant, recipe, settings.image_size)
        self.network = place(network, self.device, self.compute) if variant.keeps_memory else network.to(self.device)
        self.model = compiled(self.network, self.compute)
        rate = RATE_PER_IMAGE * settings.batch
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=rate, betas=(0.0, 0.99))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.compute.precision == "float16")
        self.stored = _stored_features(recipe, settings)

    def step(self) -> float:
        """Take a training step and return its seconds."""
        self._synchronize()
        started = time.perf_counter()
        self._backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._synchronize()
        return time.perf_counter() - started

    def effect(self) -> dict[str, Any]:
        """Return the `loss` and the `norms` of every parameter's gradient, by name; the weights stay what they are."""
        loss = self._backward()
        # A first scale that is too large for float16 makes infinite gradients; the scaler halves it, as it would while training.
        while self.scaler.is_enabled() and not all(grad.isfinite().all() for grad in self._gradients().values()):
            if self.scaler.get_scale() < 1:
                raise FloatingPointError("the gradients are not finite")
            self.scaler.update()
            loss = self._backward()
        self.scaler.update()
        norms = {name: gradient.norm().item() for name, gradient in self._gradients().items()}
        return {"loss": loss.item(), "norms": norms}

    def _gradients(self) -> dict[str, torch.Tensor]:
        parameters = self.network.named_parameters()
        return {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}

    def memory(self) -> dict[str, float | None]:
        """Return the peak memory so far in MB, and on a CPU the share of it above what the imports took."""
        if self.device.type == "cuda":
            return {"peak_mb": torch.cuda.max_memory_allocated() / MEGABYTE, "peak_above_imports_mb": None}
        peak = peak_bytes()
        return {"peak_mb": peak / MEGABYTE, "peak_above_imports_mb": (peak - self.imported) / MEGABYTE}

    def _backward(self) -> torch.Tensor:
        """Read the batch, compute loss and gradients (unscaled), and return the loss."""
        features = formatted((level.to(self.device).float() for level in self.stored), self.compute)
        with autocast(self.device, self.compute.precision):
            reconstructions = self.model(features)
        loss = reconstruction_loss(features, reconstructions, self.loss_weight)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        return loss.detach()

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def _network(variant: Variant, recipe: Network, image_size: int) -> torch.nn.Module:
    config = InvADConfig(
        style_channels=recipe.style_channels, latent_channels=recipe.latent_channels, blocks=recipe.blocks
    )
    network = FeatureInversion(recipe.channels, [image_size // stride for stride in STRIDES], config)
    return NaiveFeatureInversion(network) if variant.naive else network


def _stored_features(recipe: Network, settings: Settings) -> list[torch.Tensor]:
    """A batch as the feature store holds it: float16 on the CPU."""
    generator = torch.Generator().manual_seed(SEED)
    sizes = [settings.image_size // stride for stride in STRIDES]
    return [
        torch.randn(settings.batch, width, size, size, generator=generator).half()
        for width, size in zip(recipe.channels, sizes, strict=True)
    ]
