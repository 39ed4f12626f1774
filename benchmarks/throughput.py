"""Images per second of feature extraction and of scoring, what their time goes to, and what precision does to the maps.

    python benchmarks/throughput.py                             # resnet34 and InvAD-lite at 256 pixels, float32 and bfloat16
    python benchmarks/throughput.py --workers 1 --rounds 1      # without Ray

Images are generated, weights are random. Writes `throughput_<encoder>_<device>.json` and `.md`; exits with 1 when the blur is not scipy's.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any, get_args

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the stages have it; torch reads it when it is imported

import torch
from hardware import hardware
from loops import extract_as_stage, extract_plainly, score_as_stage, score_plainly
from results import command
from scipy.ndimage import gaussian_filter
from throughput_report import BLUR_TOLERANCE, write_report
from workload import METHODS, SEED, Settings, Stopwatch, Workload, medians

from invad.cluster.cluster import ray_session
from invad.cluster.extract import shard_runner
from invad.config import Precision, ScoreConfig, check_image_size
from invad.config.constants import STRIDES
from invad.devices import best_device, place
from invad.features import LiveFeatures
from invad.features.batches import Batch
from invad.features.extract import run_here
from invad.methods.maps import gaussian_blur
from invad.scoring.score import finished
from invad.training.model_folder import load_model

SIGMA = 4.0  # of the blur, in pixels
PLAIN, RAY = "plain loop", "stage, workers of Ray"
Ways = Mapping[str, Callable[[], Mapping[str, float]]]


def take_turns(ways: Ways, rounds: int) -> dict[str, dict[str, float]]:
    """Return the medians of what each way measures; they take turns, so that a noisy machine is noisy to all alike."""
    turns = [{name: way() for name, way in ways.items()} for _ in range(rounds)]
    return {name: medians([turn[name] for turn in turns]) for name in ways}


def speed(way: str, precision: Precision, images: int, parts: Mapping[str, float]) -> dict[str, Any]:
    """Return a row about `way`, whose seconds are those of its parts; the `shares` are of the time after its start."""
    seconds, start = sum(parts.values()), parts.get("start", 0.0)
    return {
        "way": way,
        "precision": precision,
        "seconds": seconds,
        "start_s": start,
        "images_per_s": images / seconds,
        "images_per_s_after_start": images / (seconds - start),
        "shares": {part: value / (seconds - start) for part, value in parts.items() if part != "start"},
    }


def extraction_speeds(work: Workload, precision: Precision, rounds: int, through_ray: bool) -> list[dict[str, Any]]:
    """Return a row for each way to extract features."""
    ways = {
        PLAIN: partial(extract_plainly, work, precision),
        "stage, one process": partial(extract_as_stage, work, precision, run_here, workers=1),
    }
    if through_ray:
        import ray.data  # noqa: F401  (here, so that it is not part of a measurement; no other import is)

        ways[RAY] = partial(extract_as_stage, work, precision, shard_runner(work.workers()), work.settings.workers)
    measured = take_turns(ways, rounds)
    return [speed(way, precision, work.settings.extracted, parts) for way, parts in measured.items()]


def scoring_speeds(work: Workload, precision: Precision, rounds: int) -> list[dict[str, Any]]:
    """Return a row for each way to score, with stored and with live features."""
    ways = {
        f"{way}, {'live' if live else 'stored'} features": partial(score, work, precision, live)
        for live in (False, True)
        for way, score in ((PLAIN, score_plainly), ("stage", score_as_stage))
    }
    measured = take_turns(ways, rounds)
    return [speed(way, precision, work.settings.images, parts) for way, parts in measured.items()]


def compare_ray(speeds: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Return by how many seconds Ray is slower than the plain loop, how many its start takes, and whether that explains it."""
    plain, ray = (next(row for row in speeds if row["way"] == way) for way in (PLAIN, RAY))
    slower = ray["seconds"] - plain["seconds"]
    idle = take_turns({"idle": time_idle_ray}, rounds)["idle"]["all"]
    return {"slower_s": slower, "start_s": ray["start_s"], "idle_s": idle, "holds": slower <= ray["start_s"]}


def time_idle_ray() -> Mapping[str, float]:
    """Return the seconds in which Ray starts and stops with nothing to do."""
    watch = Stopwatch(torch.device("cpu"))
    with watch.part("all"), ray_session():
        pass
    return watch.seconds


def compare_blurs(work: Workload, rounds: int) -> dict[str, float]:
    """Return the seconds for a batch of maps with `gaussian_blur` on the device and with scipy, and their largest difference."""
    size = work.settings.image_size
    maps = torch.rand(work.settings.batch, size, size, generator=torch.Generator().manual_seed(SEED))
    on_device, blurred = maps.to(work.device), {}

    def timed(name: str, blur: Callable[[], Any]) -> dict[str, float]:
        watch = Stopwatch(work.device)
        with watch.part("all"):
            blurred[name] = blur()
        return watch.seconds

    ways = {
        "device": partial(timed, "device", lambda: gaussian_blur(on_device, SIGMA)),
        "scipy": partial(timed, "scipy", lambda: gaussian_filter(maps.numpy(), (0, SIGMA, SIGMA), mode="reflect")),
    }
    seconds = take_turns(ways, rounds)
    difference = (blurred["device"].cpu() - torch.from_numpy(blurred["scipy"])).abs().max().item()
    return {"device_s": seconds["device"]["all"], "scipy_s": seconds["scipy"]["all"], "largest_difference": difference}


@torch.no_grad()
def precision_effects(work: Workload) -> list[dict[str, Any]]:
    """Return how far one batch's maps are from those of float32 throughout, in standard deviations of these."""
    method = place(load_model(work.model)[0], work.device, work.benchmark("float32", live=True).score)
    source = LiveFeatures(work.scored, "test", work.features("float32", live=True), work.encoder)
    levels = next(source.batches(work.batches(work.scored)[:1], work.device))

    def maps(precision: Precision, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        features = tuple(level.to(dtype).float() for level in levels)
        score = ScoreConfig(precision=precision, sigma=SIGMA)
        return finished(method, method.predict, Batch(features), score)[0]

    reference = maps("float32")
    changed = {
        "features stored as float16": maps("float32", torch.float16),
        "scoring in bfloat16": maps("bfloat16"),
        "scoring in float16": maps("float16"),
    }
    differences = {what: (other - reference).abs() / reference.std() for what, other in changed.items()}
    return [
        {"what": what, "largest": difference.max().item(), "mean": difference.mean().item()}
        for what, difference in differences.items()
    ]


def measure(settings: Settings, precisions: list[Precision], rounds: int) -> dict[str, Any]:
    """Return everything; features are extracted through Ray in the first precision only."""
    with tempfile.TemporaryDirectory() as folder:
        work = Workload(settings, Path(folder))
        work.features_folder(work.features("float32"))  # a first extraction, so that none of those that count is one
        extraction, scoring = [], []
        for precision in precisions:
            through_ray = settings.workers > 1 and precision == precisions[0]
            extraction += extraction_speeds(work, precision, rounds, through_ray)
            scoring += scoring_speeds(work, precision, rounds)
        return {
            "extraction": extraction,
            "ray": compare_ray(extraction, rounds) if settings.workers > 1 else None,
            "scoring": scoring,
            "blur": compare_blurs(work, rounds),
            "maps": precision_effects(work),
        }


def main() -> int:
    """Measure and write the results; return the exit code."""
    options = parse_options()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the stages take the GPU where they see one
    device = best_device() if options.device == "auto" else torch.device(options.device)
    options.device = device.type
    torch.set_num_threads(options.threads)
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    result: dict[str, Any] = {
        "benchmark": "throughput",
        "command": command("throughput.py", vars(options)),
        "hardware": hardware(device, options.threads),
        "settings": {**asdict(settings), "rounds": options.rounds, "seed": SEED},
        **measure(settings, options.precisions.split(","), options.rounds),
    }
    report = write_report(options.out / f"throughput_{options.encoder}_{device.type}", result)
    print(report, end="")
    return int(result["blur"]["largest_difference"] >= BLUR_TOLERANCE)


def parse_options() -> argparse.Namespace:
    """Return the checked options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64, help="that are scored")
    parser.add_argument("--extracted", type=int, default=256, help="images to extract, the same ones over and over")
    parser.add_argument("--image-size", type=int, default=256, help="side of the encoder's input in pixels")
    parser.add_argument("--encoder", default="resnet34", help="of timm")
    parser.add_argument("--model", choices=METHODS, default="invad", help="invad is InvAD-lite")
    parser.add_argument("--batch", type=int, default=16, help="images in a batch")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU; the workers share them")
    parser.add_argument("--workers", type=int, default=2, help="of Ray; 1 leaves Ray out")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts")
    parser.add_argument("--precisions", default="float32,bfloat16", help="separated by commas (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"), help="folder of the results")
    options = parser.parse_args()
    counts = ("images", "extracted", "batch", "threads", "workers", "rounds")
    if min(getattr(options, name) for name in counts) < 1:
        parser.error(f"{', '.join(f'--{name}' for name in counts)} are at least 1")
    try:
        check_image_size(options.image_size, METHODS[options.model].GRID_MULTIPLE * STRIDES[-1])
    except ValueError as error:
        parser.error(str(error))
    if unknown := set(options.precisions.split(",")) - set(get_args(Precision)):
        parser.error(f"--precisions: unknown {', '.join(sorted(unknown))}; there are {', '.join(get_args(Precision))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
