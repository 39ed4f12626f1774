"""A generated data set laid out like VisA: candle (several instances), cashew and pcb1 (structured)."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from invad.data.embedded.drawing import (
    FLAT,
    GLOSSY,
    MATTE,
    METAL,
    ROUND,
    Canvas,
    Colour,
    Finish,
    Pen,
    Point,
    Rng,
    box,
    image_rng,
    jittered,
    matter,
    oval,
    plane,
    rounded,
    scaled,
    wandering,
    wobbly,
)
from invad.files import atomic_path

# How far a defect's colour stands out from what it lies on (opacity). Lower is harder.
DEFECT_CONTRAST = 0.65
# Linear size of a defect relative to the design size. Lower is harder.
DEFECT_SIZE = 1.0
# Spread of pose, hue and illumination among the normal images. Higher is harder.
NORMAL_VARIATION = 1.0

GOOD = "good"
# The mask of an anomalous image holds 1 + the position of its defect type in this list.
DEFECTS = {
    "candle": ("chunk of wax missing", "foreign particles", "damaged wick"),
    "cashew": ("burnt", "corner broken", "scratches"),
    "pcb1": ("missing component", "bent", "scratch"),
}
CSV_COLUMNS = ("object", "split", "label", "image", "mask")


def generate_visa(root: Path, *, seed: int, train_images: int, test_images: int, image_size: int) -> None:
    """Write a VisA root below `root`: three classes and `split_csv/1cls.csv`; JPEGs whose longer edge is `image_size`.

    `train_images` and `test_images` count per class; half of the test images (rounded down) are anomalous, their defect
    types taken in turn. Masks are 8-bit and hold 0 or the number of the defect type (1, 2, 3), as the real ones do. The
    same seed gives the same bytes, and more images leave the earlier ones alone.
    """
    rows: list[tuple[str, str, str, str, str]] = []
    anomalous = test_images // 2
    for name in DEFECTS:
        images = f"{name}/Data/Images"
        for phase, count in (("train", train_images), ("test", test_images - anomalous)):
            for index in range(count):
                # even numbers train, odd ones test, so that asking for more of one never renames the other
                path = f"{images}/Normal/{2 * index + (phase == 'test'):04d}.JPG"
                picture, _ = draw_image(seed, name, phase, GOOD, index, image_size)
                _save_jpeg(picture, root / path)
                rows.append((name, phase, "normal", path, ""))
        for index in range(anomalous):
            path, mask_path = f"{images}/Anomaly/{index:03d}.JPG", f"{name}/Data/Masks/Anomaly/{index:03d}.png"
            defect_type = DEFECTS[name][index % len(DEFECTS[name])]
            picture, mask = draw_image(seed, name, "test", defect_type, index, image_size)
            _save_jpeg(picture, root / path)
            (root / mask_path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / mask_path)
            rows.append((name, "test", "anomaly", path, mask_path))
    with atomic_path(root / "split_csv" / "1cls.csv") as temporary, temporary.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([CSV_COLUMNS, *rows])


def draw_image(
    seed: int, name: str, phase: str, defect_type: str, index: int, image_size: int, *, without_defect: bool = False
) -> tuple[Image.Image, NDArray[np.uint8]]:
    """One image (4:3, longer edge `image_size`) and its mask, (height, width) uint8, 0 or the number of the defect type.

    `without_defect` gives the same picture before it got its defect, and an empty mask.
    """
    key = ("visa", name, f"{phase}/{GOOD if defect_type == GOOD else 'anomaly'}", index)
    rng = image_rng(seed, *key, "object")
    canvas = Canvas(rng, image_size, round(image_size * 0.75), light_angle=-2.2 + rng.normal(0, 0.1 * NORMAL_VARIATION))
    exposure = 1 + rng.normal(0, 0.04 * NORMAL_VARIATION)
    shown = GOOD if without_defect else defect_type
    _PAINTERS[name](canvas, shown, image_rng(seed, *key, "defect"))
    covered = canvas.covered()
    mask = np.zeros(covered.shape, np.uint8)
    if shown != GOOD:
        mask[covered] = 1 + DEFECTS[name].index(shown)
    canvas.rng = image_rng(seed, *key, "sensor")
    return canvas.photograph(noise_level=0.012, exposure=exposure), mask


def _save_jpeg(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, format="JPEG", quality=94)


def _backdrop(canvas: Canvas, colour: Colour, unevenness: float) -> None:
    x, y = canvas.axes()
    tone = 1 + unevenness * (canvas.noise("cloud") + canvas.noise("grain")) - 0.15 * (x + y - 1)
    canvas.rgb[:] = tone * plane(jittered(canvas.rng, colour, 0.02 * NORMAL_VARIATION))


def _candle(canvas: Canvas, defect_type: str, defect_rng: Rng) -> None:
    rng = canvas.rng
    _backdrop(canvas, (0.14, 0.30, 0.22), 0.03)
    side = canvas.height * 0.46
    spread = 0.012 * NORMAL_VARIATION
    pen = Pen(canvas, (0.0, 0.0), (side, side))
    places = rng.permutation(4).tolist()
    for place in places:
        x = canvas.width * (0.27 + 0.46 * (place % 2) + rng.normal(0, spread))
        y = canvas.height * (0.26 + 0.48 * (place // 2) + rng.normal(0, spread))
        pen = Pen(canvas, (x, y), (side, side), angle=rng.uniform(-3.1, 3.1))
        _draw_candle(pen, damaged_wick=place == places[-1] and defect_type == "damaged wick")
    if defect_type in ("damaged wick", GOOD):
        return
    canvas.rng = rng = defect_rng
    canvas.start_coverage()  # the candle drawn last is the defective one
    pen.oval(0.5, 0.5, 0.455, 0.455, (0, 0, 0), matter(FLAT, 0.0))
    canvas.clip = canvas.coverage.astype(np.float32) / 255
    canvas.start_coverage()
    turn = rng.uniform(0, 6.28)
    edge = (0.5 + 0.36 * float(np.cos(turn)), 0.5 + 0.36 * float(np.sin(turn)))
    if defect_type == "chunk of wax missing":
        radius = rng.uniform(0.13, 0.18) * DEFECT_SIZE
        notch = wobbly(rng, *edge, radius, 0.45)
        pen.poly(notch, (0.42, 0.38, 0.30), Finish(relief=-0.8, bevel=0.2, opacity=min(1, DEFECT_CONTRAST + 0.25)))
    else:
        for _ in range(rng.integers(2, 5)):
            x, y = edge[0] + rng.normal(0, 0.08), edge[1] + rng.normal(0, 0.08)
            speck = wobbly(
                rng, 0.5 + 0.75 * (x - 0.5), 0.5 + 0.75 * (y - 0.5), rng.uniform(0.06, 0.10) * DEFECT_SIZE, 0.5
            )
            pen.poly(speck, (0.30, 0.17, 0.09), Finish(relief=0.4, opacity=DEFECT_CONTRAST + 0.1))
    canvas.clip = None


def _draw_candle(pen: Pen, *, damaged_wick: bool) -> None:
    rng = pen.rng
    wax = jittered(rng, (0.90, 0.86, 0.76), 0.02 * NORMAL_VARIATION)
    pen.shadow(oval(0.5, 0.5, 0.45, 0.45), (0.05, 0.06), 0.05, 0.6)
    pen.oval(0.5, 0.5, 0.45, 0.45, (0.70, 0.70, 0.72), Finish(relief=1.2, bevel=0.04, gloss=0.5))
    pen.oval(0.5, 0.5, 0.42, 0.42, wax, Finish(relief=0.5, bevel=0.1, noise="cloud", noise_strength=0.035))
    pool = wobbly(rng, 0.5, 0.5, rng.uniform(0.15, 0.2), 0.2)
    pen.blob(pool, scaled(wax, 0.93), Finish(relief=-0.35, bevel=0.25, gloss=0.2))
    pen.canvas.start_coverage()
    if damaged_wick:
        path = wandering(rng, (0.5, 0.5), 0.6, 0.42 * DEFECT_SIZE, 0.35)
        pen.line(path, 0.055, (0.20, 0.17, 0.15), matter(ROUND, DEFECT_CONTRAST + 0.2))
        soot = wobbly(rng, 0.45, 0.45, 0.13 * DEFECT_SIZE, 0.4)
        pen.blob(soot, (0.35, 0.30, 0.25), Finish(relief=0, blur=0.06, opacity=0.7 * DEFECT_CONTRAST))
    else:
        pen.shadow([(0.48, 0.48), (0.52, 0.48), (0.66, 0.53), (0.66, 0.56)], (0.02, 0.03), 0.015, 0.4)
        pen.line([(0.5, 0.5), (0.58, 0.51), (0.66, 0.53)], 0.05, (0.86, 0.83, 0.78), ROUND)
        pen.line([(0.62, 0.52), (0.66, 0.53)], 0.05, (0.30, 0.25, 0.22), ROUND)


def _cashew(canvas: Canvas, defect_type: str, defect_rng: Rng) -> None:
    rng = canvas.rng
    _backdrop(canvas, (0.12, 0.12, 0.14), 0.05)
    side = canvas.height * rng.uniform(0.80, 0.92)
    centre = (canvas.width * (0.5 + rng.normal(0, 0.02)), canvas.height * (0.5 + rng.normal(0, 0.02)))
    angle = rng.normal(0, 0.35 * NORMAL_VARIATION)
    pen = Pen(canvas, centre, (side * rng.uniform(1.12, 1.22), side), angle=angle, flip=bool(rng.integers(0, 2)))
    nut = jittered(rng, (0.83, 0.67, 0.45), 0.03 * NORMAL_VARIATION)
    swell = rng.uniform(-0.03, 0.03)
    body = rounded(
        [
            *((0.04, 0.42), (0.10, 0.16), (0.38, 0.05 + swell), (0.70, 0.10), (0.93, 0.36), (0.97, 0.70), (0.84, 0.88)),
            *((0.66, 0.80), (0.60, 0.58), (0.48, 0.50 - swell), (0.34, 0.56), (0.22, 0.66), (0.08, 0.60)),
        ]
    )
    pen.shadow(body, (0.04, 0.05), 0.05, 0.7)
    pen.poly(body, nut, Finish(relief=0.9, bevel=0.14, gloss=0.1, noise="cloud", noise_strength=0.05))
    canvas.start_coverage()
    pen.poly(body, nut, matter(FLAT, 0.0))
    canvas.clip = canvas.coverage.astype(np.float32) / 255
    crease = wandering(rng, (0.16, 0.42), -0.45, 0.55, 0.10)
    pen.line(crease, 0.03, scaled(nut, 0.82), Finish(relief=-0.6, opacity=0.5, blur=0.3))
    specks = []
    for _ in range(14):
        x, y = rng.uniform(0.05, 0.95, 2)
        specks.append(wobbly(rng, x, y, rng.uniform(0.006, 0.014), 0.3, 8))
    pen.polys(specks, scaled(nut, 0.72), matter(FLAT, 0.5))
    canvas.start_coverage()
    canvas.rng = rng = defect_rng
    if defect_type == "burnt":
        x, y = [(0.25, 0.34), (0.5, 0.28), (0.78, 0.45), (0.82, 0.68)][rng.integers(0, 4)]
        spot = wobbly(rng, x, y, rng.uniform(0.09, 0.13) * DEFECT_SIZE, 0.4)
        pen.blob(
            spot,
            (0.33, 0.18, 0.09),
            Finish(relief=0, blur=0.07, noise="cloud", noise_strength=0.15, opacity=DEFECT_CONTRAST),
        )
    elif defect_type == "corner broken":
        x, y, radius = (0.90, 0.84, 0.16) if rng.integers(0, 2) else (0.10, 0.52, 0.17)
        piece = wobbly(rng, x, y, radius * DEFECT_SIZE, 0.3)
        pen.poly(piece, (0.80, 0.69, 0.50), Finish(relief=-0.5, bevel=0.18, noise="grain", noise_strength=0.08))
        gone = wobbly(rng, x + 0.55 * (x - 0.5) * radius, y + 0.6 * (y - 0.4) * radius, 0.8 * radius * DEFECT_SIZE, 0.3)
        pen.poly(gone, (0.10, 0.10, 0.12), Finish(relief=0.0, noise="grain", noise_strength=0.08))
    elif defect_type == "scratches":
        start = [(0.2, 0.25), (0.45, 0.15), (0.74, 0.3)][rng.integers(0, 3)]
        for _ in range(rng.integers(2, 4)):
            nearby = (start[0] + rng.normal(0, 0.04), start[1] + rng.normal(0, 0.04))
            path = wandering(rng, nearby, rng.uniform(0.3, 1.3), rng.uniform(0.2, 0.32) * DEFECT_SIZE, 0.15)
            pen.line(path, 0.03, (0.45, 0.29, 0.15), Finish(relief=-0.8, opacity=DEFECT_CONTRAST))
    canvas.clip = None


def _pcb1(canvas: Canvas, defect_type: str, defect_rng: Rng) -> None:
    rng = canvas.rng
    _backdrop(canvas, (0.62, 0.63, 0.64), 0.015)
    scale = canvas.width * rng.uniform(0.87, 0.91)
    centre = (canvas.width * (0.5 + rng.normal(0, 0.01)), canvas.height * (0.5 + rng.normal(0, 0.01)))
    pen = Pen(canvas, centre, (scale, scale * 0.62), angle=rng.normal(0, 0.02 * NORMAL_VARIATION))
    board = jittered(rng, (0.10, 0.25, 0.50), 0.03 * NORMAL_VARIATION)
    pen.shadow(box(0, 0, 1, 1), (0.03, 0.04), 0.03, 0.6)
    pen.rect(0, 0, 1, 1, board, Finish(relief=0.5, bevel=0.015, noise="grain", noise_strength=0.03))
    _draw_traces(pen, board)
    absent = int(defect_rng.integers(0, REMOVABLE)) if defect_type == "missing component" else -1
    bent = int(defect_rng.integers(0, 2)) if defect_type == "bent" else -1
    footprints = [_draw_part(pen, part, absent=number == absent) for number, part in enumerate(PARTS)]
    for x in (0.20, 0.80):
        _draw_transducer(pen, x)
    pins = _draw_header(pen, bent_pin=bent)
    canvas.start_coverage()
    canvas.rng = rng = defect_rng
    if absent >= 0:
        pen.poly(footprints[absent], board, matter(FLAT, 0.0))
    elif bent >= 0:
        pen.polys(pins, board, matter(FLAT, 0.0))
    elif defect_type == "scratch":
        for _ in range(rng.integers(1, 3)):
            start = (rng.uniform(0.3, 0.55), rng.uniform(0.12, 0.5))
            path = wandering(rng, start, rng.uniform(0.2, 1.3), rng.uniform(0.25, 0.4) * DEFECT_SIZE, 0.12)
            pen.line(path, 0.035, (0.74, 0.70, 0.55), Finish(relief=0.6, opacity=DEFECT_CONTRAST))


# kind, centre, size of the parts in the middle of the board, in board coordinates
PARTS = (
    ("chip", 0.50, 0.30, 0.13, 0.24),
    ("chip", 0.43, 0.66, 0.09, 0.16),
    ("capacitor", 0.585, 0.62, 0.07, 0.115),
    ("crystal", 0.52, 0.83, 0.11, 0.09),
    ("resistor", 0.405, 0.20, 0.05, 0.07),
    ("resistor", 0.405, 0.36, 0.05, 0.07),
    ("resistor", 0.60, 0.40, 0.05, 0.07),
    ("resistor", 0.60, 0.22, 0.05, 0.07),
)

REMOVABLE = 4  # the first ones are large enough to be missed


def _draw_traces(pen: Pen, board: Colour) -> None:
    bends = ((0.04, 0), (0.30, 0), (0.36, 0.08), (0.64, 0.08), (0.70, 0), (0.96, 0))
    rails = [[(x, y + down) for x, down in bends] for y in (0.06, 0.12, 0.48, 0.56)]
    drops = [[(x, 0.05), (x, 0.45), (x + 0.03, 0.52), (x + 0.03, 0.94)] for x in (0.365, 0.45, 0.55, 0.635)]
    pen.lines(rails + drops, 0.014, scaled(board, 1.55), MATTE)
    vias = [oval(x, y, 0.011, 0.018, 12) for x in (0.37, 0.47, 0.53, 0.64) for y in (0.08, 0.5, 0.75)]
    pen.polys(vias, (0.75, 0.72, 0.6))
    for x, y in ((x, y) for x in (0.035, 0.965) for y in (0.06, 0.94)):
        pen.oval(x, y, 0.022, 0.036, (0.80, 0.78, 0.72), METAL)
        pen.oval(x, y, 0.013, 0.021, (0.45, 0.45, 0.45), MATTE)


_CHIP = Finish(relief=0.8, bevel=0.08, noise="grain", noise_strength=0.1)
_CAN = Finish(relief=1.2, bevel=0.15, gloss=0.5)
_CRYSTAL = Finish(relief=1.3, bevel=0.15, gloss=0.6)
_SOLDER = (0.78, 0.78, 0.76)


def _draw_part(pen: Pen, part: tuple[str, float, float, float, float], *, absent: bool) -> list[Point]:
    """Draw one component, or its bare pads when it is absent; returns its outline in board coordinates."""
    kind, x, y, width, height = part
    x, y = x + float(pen.rng.normal(0, 0.002)), y + float(pen.rng.normal(0, 0.003))
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    footprint = box(left, top, right, bottom)
    pads = [box(left, top, left + width * 0.3, bottom), box(right - width * 0.3, top, right, bottom)]
    if kind == "chip":
        rows = [(top + height * f, top + height * (f + 0.1)) for f in (0.06, 0.32, 0.58, 0.84)]
        pads = [box(left - 0.018, y0, right + 0.018, y1) for y0, y1 in rows]
        if absent:
            pads = [box(x0, y0, x0 + 0.03, y1) for y0, y1 in rows for x0 in (left - 0.018, right - 0.012)]
    pen.polys(pads, _SOLDER, METAL)
    if absent:
        return footprint
    pen.shadow(footprint, (0.012, 0.016), 0.012, 0.5)
    if kind == "chip":
        pen.poly(footprint, (0.13, 0.13, 0.14), _CHIP)
        pen.oval(left + width * 0.2, top + height * 0.14, 0.009, 0.014, (0.3, 0.3, 0.3), FLAT)
        letters = [[(left + width * 0.3, y + d), (right - width * 0.2, y + d)] for d in (-0.015, 0.03)]
        pen.lines(letters, 0.012, (0.5, 0.5, 0.5), FLAT)
    elif kind == "capacitor":
        pen.oval(x, y, width / 2, height / 2, (0.72, 0.72, 0.74), _CAN)
        mark = x + width * 0.15
        pen.poly([(mark, top + 0.015), (right - 0.004, y), (mark, bottom - 0.015)], (0.15, 0.15, 0.2), FLAT)
    elif kind == "crystal":
        pen.blob(box(left - 0.01, top - 0.01, right + 0.01, bottom + 0.01), (0.74, 0.74, 0.72), _CRYSTAL)
    else:
        pen.rect(left + width * 0.22, top, right - width * 0.22, bottom, (0.16, 0.14, 0.13), GLOSSY)
    return footprint


def _draw_transducer(pen: Pen, x: float) -> None:
    """One of the two round metal cans with a mesh front."""
    ratio = 1 / 0.62
    pen.shadow(oval(x, 0.5, 0.155, 0.155 * ratio), (0.03, 0.04), 0.03, 0.6)
    pen.oval(x, 0.5, 0.155, 0.155 * ratio, (0.72, 0.72, 0.70), Finish(relief=1.2, bevel=0.06, gloss=0.6))
    pen.oval(x, 0.5, 0.115, 0.115 * ratio, (0.22, 0.22, 0.23), Finish(relief=-0.9, bevel=0.08))
    wires = []
    for offset in np.linspace(-0.09, 0.09, 7).tolist():
        reach = float(np.sqrt(0.11**2 - offset**2))
        wires.append([(x - reach, 0.5 + offset * ratio), (x + reach, 0.5 + offset * ratio)])
        wires.append([(x + offset, 0.5 - reach * ratio), (x + offset, 0.5 + reach * ratio)])
    pen.lines(wires, 0.014, (0.58, 0.58, 0.56), FLAT)


def _draw_header(pen: Pen, bent_pin: int) -> list[list[Point]]:
    """The row of four pins at the lower edge; returns the outlines of a bent pin: where it is and where it should be."""
    outlines: list[list[Point]] = []
    pen.rect(0.41, 0.92, 0.59, 1.0, (0.12, 0.12, 0.13), GLOSSY)
    for pin, x in enumerate((0.435, 0.478, 0.522, 0.565)):
        tip = 0.0
        if pin // 2 == bent_pin:
            tip = (0.07 + 0.03 * pen.rng.uniform()) * DEFECT_SIZE * (1 if bent_pin else -1)
        end = 1.16 - 0.5 * abs(tip)
        shape = [(x - 0.010, 0.93), (x + 0.010, 0.93), (x + 0.011 + tip, end), (x - 0.009 + tip, end)]
        pen.shadow(shape, (0.012, 0.015), 0.01, 0.5)
        pen.poly(shape, (0.83, 0.74, 0.48), METAL)
        if tip:
            outlines += [shape, box(x - 0.010, 0.93, x + 0.010, 1.16)]
    return outlines


_PAINTERS: dict[str, Callable[[Canvas, str, Rng], None]] = {"candle": _candle, "cashew": _cashew, "pcb1": _pcb1}
