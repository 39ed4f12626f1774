"""Time and memory of InvAD's training step in every way the project can compute it, against the naive form of the same network.

    python benchmarks/training_step.py                       # InvAD-lite, 256x256 pixels, batch 8, on the GPU if there is one
    python benchmarks/training_step.py --network invad --variants naive,ours,bfloat16

Each variant has a process of its own, and all take their steps in turn, so that a noisy machine is noisy to all alike. They are alive
together: together they have to fit into memory. Writes
`training_step_<network>_batch<n>_<device>.json` and `.md`.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from children import Child
from hardware import hardware
from results import command, number, write_results
from variants import NETWORKS, SEED, VARIANTS, Settings, TrainingStep

from invad.devices import best_device

WARM_UP = 2  # rounds that are not counted
NOISE = 1e-5  # gradients this much smaller than the whole are rounding noise: a bias before BatchNorm has none
ANSWER_SECONDS, COMPILE_SECONDS = 120, 900  # a variant that takes longer for a step is given up

HEADING = (
    "Variant",
    "Step (s)",
    "Images/s",
    "Times faster than naive",
    "Peak memory (MB)",
    "of naive's",
    "Above imports (MB)",
    "of naive's",
    "Loss differs by",
    "Gradients differ by",
)
NOTES = (
    "A step is forward, loss, backward, gradient clipping and Adam on float16 features in memory; its time is the median over rounds in "
    "which the variants take turns. Peak memory: on a CPU of the whole process, with the share above what it held after its imports; "
    'on a GPU of torch\'s allocations. The last two columns compare with "ours" on the same weights and batch: relative difference of '
    f"the loss, and the largest relative difference of a parameter's gradient norm (norms below {NOISE:g} of the whole are left out)."
)


def measure(variants: Sequence[str], settings: Settings, rounds: int) -> dict[str, dict[str, Any]]:
    """Run all variants and return, for each, its numbers or the `reason` why there are none."""
    children = {name: Child(TrainingStep, VARIANTS[name], settings) for name in variants}
    limits = {name: COMPILE_SECONDS if VARIANTS[name].compute.compile else ANSWER_SECONDS for name in variants}
    try:
        effects = {name: child.ask("effect", limits[name]) for name, child in children.items()}
        turns = [
            {name: child.ask("step", limits[name]) for name, child in children.items()} for _ in range(WARM_UP + rounds)
        ]
        memory = {name: child.ask("memory", limits[name]) for name, child in children.items()}
    finally:
        for child in children.values():
            child.close()
    measured: dict[str, dict[str, Any]] = {}
    for name, child in children.items():
        measured[name] = {"label": VARIANTS[name].label}
        if child.failure is not None:
            measured[name]["reason"] = child.failure
            continue
        seconds = [turn[name] for turn in turns[WARM_UP:]]
        median = statistics.median(seconds)
        measured[name] |= {
            "step_s": median,
            "images_per_s": settings.batch / median,
            **memory[name],
            "steps_s": seconds,
        }
        measured[name] |= {"loss": effects[name]["loss"], **differences(effects[name], effects.get("ours"))}
    compare_with_naive(measured)
    return measured


def differences(effect: dict[str, Any], reference: dict[str, Any] | None) -> dict[str, float | None]:
    """Return how far loss and gradient norms are from the reference's, relative to those; None without a reference."""
    if reference is None:
        return {"loss_difference": None, "gradient_difference": None}
    whole = sum(norm**2 for norm in reference["norms"].values()) ** 0.5
    gradients = [
        abs(effect["norms"][name] - norm) / norm for name, norm in reference["norms"].items() if norm > NOISE * whole
    ]
    return {
        "loss_difference": abs(effect["loss"] - reference["loss"]) / reference["loss"],
        "gradient_difference": max(gradients),
    }


def compare_with_naive(measured: dict[str, dict[str, Any]]) -> None:
    """Add to every variant with numbers how it compares with the naive one; None where that has none."""
    naive = measured.get("naive", {})
    for values in measured.values():
        if "reason" not in values:
            values["times_faster"] = naive["step_s"] / values["step_s"] if "step_s" in naive else None
            for key in ("peak_mb", "peak_above_imports_mb"):
                values[f"{key}_of_naive"] = values[key] / naive[key] if naive.get(key) else None


def table(measured: dict[str, dict[str, Any]]) -> list[Sequence[str]]:
    """Return the heading and a row for each variant."""
    rows: list[Sequence[str]] = [HEADING]
    for values in measured.values():
        if "reason" in values:
            rows.append((f"{values['label']}: cannot run, {values['reason']}", *[""] * (len(HEADING) - 1)))
            continue
        keys = ("peak_mb", "peak_mb_of_naive", "peak_above_imports_mb", "peak_above_imports_mb_of_naive")
        cells = [values[key] for key in ("step_s", "images_per_s", "times_faster", *keys)]
        effects = [values["loss_difference"], values["gradient_difference"]]
        rows.append((values["label"], *map(number, cells), *(number(value, 2) for value in effects)))
    return rows


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="invad-lite", metavar="{invad-lite,invad}")
    parser.add_argument("--image-size", type=int, default=256, help="a multiple of 16 pixels")
    parser.add_argument("--batch", type=int, default=8, help="images in a step")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each variant that are counted")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, for each variant")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="separated by commas (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"), help="folder of the results")
    options = parser.parse_args()
    variants = options.variants.split(",")
    if unknown := [name for name in variants if name not in VARIANTS]:
        parser.error(f"--variants: unknown {', '.join(unknown)}; there are {', '.join(VARIANTS)}")
    if options.image_size % 16 or min(options.image_size, options.batch, options.rounds, options.threads) < 1:
        parser.error("--image-size takes a multiple of 16; it, --batch, --rounds and --threads are at least 1")
    device = best_device() if options.device == "auto" else torch.device(options.device)
    options.device = device.type
    settings = Settings(options.network, options.image_size, options.batch, options.threads, device.type)
    measured = measure(variants, settings, options.rounds)
    result = {
        "benchmark": "training step",
        "command": command("training_step.py", vars(options)),
        "hardware": hardware(device, options.threads),
        "settings": {**asdict(settings), "rounds": options.rounds, "warm_up": WARM_UP, "seed": SEED},
        "variants": measured,
    }
    rows = table(measured)
    path = options.out / f"training_step_{options.network}_batch{options.batch}_{device.type}"
    title = (
        f"Training step of {options.network}, {options.image_size}x{options.image_size} pixels, batch {options.batch}"
    )
    write_results(path, f"{title}, {device.type}", result, rows, NOTES)
    print(path.with_name(f"{path.name}.md").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    sys.exit(main())
