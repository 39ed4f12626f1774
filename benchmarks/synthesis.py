"""How long an image with a synthetic anomaly takes, on one core, and where the time goes.

    python benchmarks/synthesis.py                           # 200 images of 256 pixels

Images and textures are generated and decoded before; every image gets an anomaly. Writes `synthesis_<size>.json` and `.md`.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from hardware import hardware
from PIL import Image
from results import command, number, write_results

from invad.data.embedded.products import generate_mvtec
from invad.features.decoded import DecodedImages
from invad.features.synthesis import Corruption, Textures, blended, corrupted, drawn_mask, perlin_noise, shuffled_tiles
from invad.features.texture_operations import OPERATIONS, augmented, rotated

NAMES = (
    "gamma",
    "brightness",
    "sharpness",
    "hue and saturation",
    "solarise",
    "posterise",
    "invert",
    "autocontrast",
    "equalise",
    "rotate",
)
NOTES = (
    "Milliseconds of one core's processor time: medians, and the times below which 95 % of the images lie. The draws of an image are "
    "its own, as in a training. The first rows are whole images, each with an anomaly (in DRAEM's recipe half of them have none, which "
    "cost a copy alone); below are their parts. Each image of a training is decoded once, as long as 2 GiB hold them."
)


@dataclass(frozen=True)
class Row:
    """Milliseconds of a part, of one image."""

    part: str
    median_ms: float
    p95_ms: float


def timed(part: str, run: Callable[[int], object], images: int) -> Row:
    """Return the milliseconds of `run(image)`."""
    run(0)
    times = []
    for image in range(images):
        started = time.thread_time()
        run(image)
        times.append(1000 * (time.thread_time() - started))
    return Row(part, statistics.median(times), float(np.quantile(times, 0.95)))


def measure(paths: list[Path], classes: list[str], size: int, images: int) -> list[Row]:
    """Return a row for each recipe, and for each of its parts."""

    def draws(image: int) -> np.random.Generator:
        return np.random.default_rng((0, 0, image))

    decoding = DecodedImages(paths, size, most_bytes=0)
    kept = DecodedImages(paths, size)
    textures = Textures.of(Corruption(), kept, classes, size)
    pictures = [kept[row] for row in range(len(paths))]
    recipes = {
        "whole, DRAEM's": Corruption(probability=1.0),
        "whole, texture as it is": Corruption(probability=1.0, rotation=0.0, operations=0),
        "whole, shuffled tiles": Corruption(1.0, rotation=0.0, operations=0, area=(0.002, 0.3), shuffled=True),
    }

    def at(values: list[np.ndarray], image: int) -> np.ndarray:
        return values[image % len(values)]

    def whole(recipe: Corruption) -> Callable[[int], object]:
        return lambda i: corrupted(at(pictures, i), textures, i % len(paths), recipe, draws(i))

    rows = [timed(name, whole(recipe), images) for name, recipe in recipes.items()]
    angles = [draws(i).uniform(0, 2 * np.pi, (2 ** (i % 6) + 1, 2 ** (i // 6) + 1)) for i in range(36)]
    noise = perlin_noise(angles[-1], (size, size))
    mask = drawn_mask((size, size), (0.04, 0.06), draws(0))
    rows += [
        timed("decode and resize", lambda i: decoding[i % len(paths)], images),
        timed("noise", lambda i: perlin_noise(at(angles, i), (size, size)), images),
        timed("rotate the noise", lambda i: rotated(noise, draws(i).uniform(-90, 90)), images),
        timed("rotate the image", lambda i: rotated(at(pictures, i), draws(i).uniform(-90, 90)), images),
        timed("blend", lambda i: blended(at(pictures, i), at(pictures, i + 1), mask, 0.4), images),
        timed("three operations", lambda i: augmented(at(pictures, i), 3, draws(i)), images),
        timed("shuffled tiles", lambda i: shuffled_tiles(at(pictures, i), draws(i)), images),
    ]
    changing = [
        lambda i, change=change: np.asarray(change(Image.fromarray(at(pictures, i)), draws(i))) for change in OPERATIONS
    ]
    return rows + [timed(name, run, images) for name, run in zip(NAMES, changing, strict=True)]


def main() -> None:
    """Measure what the command line asks for, and write a JSON file and a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=256, help="of an image, in pixels")
    parser.add_argument("--out", type=Path, default=Path("reports/benchmarks"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        generate_mvtec(Path(folder), seed=0, train_images=12, test_images=3, image_size=options.size)
        paths = sorted(Path(folder).glob("*/train/good/*.png"))
        rows = measure(paths, [path.parts[-4] for path in paths], options.size, options.images)
    table = [["part", "median (ms)", "95 % below (ms)"]]
    table += [[row.part, number(row.median_ms, 2), number(row.p95_ms, 2)] for row in rows]
    made_by = command("synthesis.py", {"images": options.images, "size": options.size})
    result = {"command": made_by, "hardware": hardware(torch.device("cpu"), 1), "rows": [asdict(row) for row in rows]}
    title = f"Synthetic anomalies in images of {options.size} pixels"
    write_results(options.out / f"synthesis_{options.size}", title, result, table, NOTES)


if __name__ == "__main__":
    main()
