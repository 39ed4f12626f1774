"""The generated Real-IAD: objects seen from above and from four sides, laid out on disk as the real ones, with the tables of all splits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from invad.data.embedded.drawing import Canvas, Pen, hsv, image_rng, jittered
from invad.data.embedded.parts import draw_parts, numbers, parse
from invad.data.embedded.specials import SPECIALS
from invad.files import write_text

NORMAL_CLASS, VIEWS = "OK", 5
FOLDER, JSONS = "realiad_1024", "realiad_jsons"
SINGLE_VIEW = f"{JSONS}_sv"
NOISY = {
    f"{JSONS}_fuiad_{share}": share for share in (0.0, 0.1, 0.2, 0.4)
}  # the share of training images of defective objects

# name | between it and the number of a file name | width in image sides, height in widths, what stands up in image sides | hue saturation
# value | what its walls are drawn of | parts of its top
_OBJECTS = """
audiojack | __ | .46:.48 1 .2 | .6:.64 .1:.2 .24:.28 | pad 0 0 1 1 .1 | t board pad 0 0 1 1 .1; t*.7 flat@.5 line .02 / .1 .86 .9 .86; keep
  .83,.7,.38 metal oval .5 .47 .27 .27; .05,.05,.06 dent oval .5 .47 .17 .17; .75,.75,.74 metal rect .06 .1 .16 .3 / .84 .1 .94 .3
button_battery | _ | .6:.63 1 .1 | .12 .03:.06 .7:.74 | oval .5 .5 .5 .5 | t steel oval .5 .5 .5 .5; t*1.1 face oval .5 .5 .4 .4
  t*.6 flat@.5 ring .015 / .5 .5 .41 .41; keep; t*.45 flat@.8 line .04 / .42 .34 .58 .34 / .5 .26 .5 .42
  t*.45 flat@.8 line .03 / .34 .6 .34 .72 / .44 .6 .44 .72 / .54 .6 .54 .72 / .64 .6 .64 .72
toy_brick | _ | .72:.75 .52 .16 | .0:.02 .72:.8 .6:.66 | rect 0 0 1 1 | t board rect 0 0 1 1; keep
  black shadow@.4 oval .15 .29 .083 .16 / .38 .29 .083 .16 / .62 .29 .083 .16 / .85 .29 .083 .16
  black shadow@.4 oval .15 .74 .083 .16 / .38 .74 .083 .16 / .62 .74 .083 .16 / .85 .74 .083 .16
  t*1.08 can oval .15 .26 .078 .15 / .38 .26 .078 .15 / .62 .26 .078 .15 / .85 .26 .078 .15
  t*1.08 can oval .15 .71 .078 .15 / .38 .71 .078 .15 / .62 .71 .078 .15 / .85 .71 .078 .15
"""
# name | code of the defect | parts on its top
_DEFECTS = """
audiojack | HS | scratch .6 .04 .85,.85,.84 .95,.95,.94 .1:.3 .72:.8 -.2:.1 .3:.45 .1
audiojack | QS | bare flat rect .83 .09 .95 .32
button_battery | AK | .2,.19,.18 dent wob .3:.7 .46:.54 .05:.07 .4; ?.2,.19,.18 dent wob .3:.7 .76:.8 .04:.05 .4
button_battery | ZW | .42,.26,.12 soot@.55 wob .3:.7 .4:.7 .1:.14 .4
toy_brick | QS | bare flat oval .62 .71 .1 .19
toy_brick | HS | scratch .7 .05 .92,.85,.82 .97,.93,.92 .1:.5 .44:.52 -.1:.1 .3:.45 .08
"""
_LOOKS = {name: cells for name, *cells in parse(_OBJECTS)}
_OVERLAYS = {(name, code): parts for name, code, parts in parse(_DEFECTS)}
CODES: dict[str, tuple[str, ...]] = {name: tuple(code for each, code in _OVERLAYS if each == name) for name in _LOOKS}
"""The codes of each class's defects."""
_BACKDROP = ".55,.56,.58 cloud band 0 1 .95 .03"
_TILT, _TALL = 0.72, 0.7  # of 45 degrees: what becomes of depths and of heights
_LAYERS = 9  # that walls are drawn as
_SHOWN = 0.66  # the share of a defective object's views that shows what is no missing part (Real-IAD: 51,329 of 78,210 views)


Sample = list[dict[str, Any]]  # the records of its views


def whole_samples(images: int) -> int:
    """Return the images of the fewest objects that have at least so many."""
    return -(-images // VIEWS) * VIEWS


def generate_real_iad(root: Path, *, seed: int, train_images: int, test_images: int, image_size: int) -> None:
    """Write a Real-IAD root below `root`: of each class square JPEGs of at least so many images, five views of each object.

    Half of the test objects (rounded up) are defective; views on which the defect does not show are normal images below `NG/`. `S` numbers
    begin anew in each folder, and file names of one class have two underscores. `realiad_jsons` is the multi-view split. The same seed
    gives the same bytes, and more images leave the earlier ones alone.
    """
    train, test = (whole_samples(images) // VIEWS for images in (train_images, test_images))
    for name, codes in CODES.items():
        tables = {"train": [("", 2 * index) for index in range(train)], "test": []}
        tables["test"] = [("", 2 * index + 1) for index in range(test // 2)]
        tables["test"] += [(codes[index % len(codes)], index // len(codes)) for index in range(test - test // 2)]
        records = {
            phase: [_write_sample(root / FOLDER / name, seed, name, *sample, image_size) for sample in of_phase]
            for phase, of_phase in tables.items()
        }
        for folder, split in _splits(records["train"], records["test"]).items():
            lists = {phase: [each for sample in of_phase for each in sample] for phase, of_phase in split.items()}
            meta = {"prefix": f"{name}/", "normal_class": NORMAL_CLASS}
            write_text(root / folder / f"{name}.json", json.dumps({"meta": meta, **lists}))


def _splits(train: list[Sample], test: list[Sample]) -> dict[str, dict[str, list[Sample]]]:
    """Return the samples of each split; of single views every sample once, half of those that are normal for training."""
    normal = [sample for sample in (*train, *test) if all(view["anomaly_class"] == NORMAL_CLASS for view in sample)]
    defective = [sample for sample in test if sample not in normal]
    single = [[sample[0]] for sample in (*train, *test)]
    of_training = [view for view in single if view[0]["anomaly_class"] == NORMAL_CLASS][::2]
    of_test = [view for view in single if view not in of_training]
    splits = {JSONS: {"train": train, "test": test}, SINGLE_VIEW: {"train": of_training, "test": of_test}}
    kept, held_out = normal[: len(train)], normal[len(train) :]
    for folder, share in NOISY.items():
        noise = defective[1::2][: round(share * len(kept))]
        splits[folder] = {"train": kept[: len(kept) - len(noise)] + noise, "test": held_out + defective[::2]}
    return splits


def _write_sample(folder: Path, seed: int, name: str, code: str, number: int, image_size: int) -> Sample:
    """Write the images and masks of a sample's views, and return their records; a good one has no `code`."""
    place = f"NG/{code}/S{number + 1:04d}" if code else f"{NORMAL_CLASS}/S{number + 1:04d}"
    stem = f"{name}{_LOOKS[name][0]}{number + 1:04d}_{'NG_' * bool(code)}{code or NORMAL_CLASS}"
    shown = image_rng(seed, "realiad", name, place, "shown").random(VIEWS) < (1 if code == "QS" else _SHOWN)
    shown[0] |= not shown.any()
    (folder / place).mkdir(parents=True, exist_ok=True)
    records = []
    for view in range(VIEWS):
        is_shown = bool(code and shown[view])
        picture, mask = draw_view(seed, name, place, view, code if is_shown else "", image_size)
        path = f"{place}/{stem}_C{view + 1}_2023{10_000_000 + 97 * number + view}"
        picture.save(folder / f"{path}.jpg", quality=94)
        if is_shown:
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{path}.png")
        records.append(
            {
                "category": name,
                "anomaly_class": code if is_shown else NORMAL_CLASS,
                "image_path": f"{path}.jpg",
                "mask_path": f"{path}.png" if is_shown else None,
            }
        )
    return records


def draw_view(
    seed: int, name: str, sample: str, view: int, code: str, size: int
) -> tuple[Image.Image, NDArray[np.bool_]]:
    """Return a square picture of an object and the mask of its defect `code`, bool (size, size), all False without one.

    `view` 0 looks from above, the others at 45 degrees from four sides. Object and defect are the same in all views of a `sample`.
    """
    canvas = Canvas(image_rng(seed, "realiad", name, sample, "object"), size, size, light_angle=-2.2)
    _, shape, tone, wall, parts = _LOOKS[name]
    draw_parts(Pen.whole(canvas), {}, _BACKDROP)
    colour = jittered(canvas.rng, hsv(*numbers(tone, canvas.rng)), 0.02)
    width, height, stands = numbers(shape, canvas.rng)
    across, deep = width * canvas.width, width * height * canvas.width
    turn = float(canvas.rng.uniform(-0.08, 0.08))
    rise = stands * _TALL * canvas.height if view else 0.0
    if view:
        turn = (view - 1) * np.pi / 2
        across, deep = (across, deep * _TILT) if view % 2 else (across * _TILT, deep)
    steps = np.linspace(0.5, -0.5, _LAYERS).tolist()  # from the bottom to the top
    pens = [Pen(canvas, (canvas.width / 2, canvas.height / 2 + step * rise), (across, deep), turn) for step in steps]
    draw_parts(pens[0], {}, f"black shadow@.6 {wall}")
    for step, pen in zip(steps, pens, strict=True) if view else ():
        draw_parts(pen, {"t": colour}, f"t*{0.5 - 0.2 * step} flat {wall}")
    pen = pens[-1]
    draw_parts(pen, {"t": colour}, parts, SPECIALS)
    canvas.start_coverage()
    canvas.rng = image_rng(seed, "realiad", name, sample, "defect")
    if code:
        draw_parts(pen, {"t": colour}, _OVERLAYS[name, code], SPECIALS)
    mask = canvas.covered()
    canvas.rng = image_rng(seed, "realiad", name, sample, "sensor", view)
    return canvas.photograph(exposure=1 + canvas.rng.normal(0, 0.03)), mask
