"""A generated data set laid out like MVTec AD: wood (texture), hazelnut and metal_nut, two defect types each."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from invad.data.embedded.drawing import (
    FLAT,
    MATTE,
    ROUND,
    Canvas,
    Finish,
    Pen,
    Point,
    Rng,
    hsv,
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

# How far a defect's colour stands out from what it lies on (opacity). Lower is harder.
DEFECT_CONTRAST = 0.62
# Linear size of a defect relative to the design size. Lower is harder.
DEFECT_SIZE = 1.0
# Spread of pose, hue and illumination among the normal images. Higher is harder.
NORMAL_VARIATION = 1.0

GOOD = "good"
DEFECTS = {"hazelnut": ("crack", "print"), "metal_nut": ("bent", "scratch"), "wood": ("hole", "scratch")}


def generate_mvtec(root: Path, *, seed: int, train_images: int, test_images: int, image_size: int) -> None:
    """Write an MVTec AD root below `root`: three classes, square 8-bit RGB PNGs of `image_size` pixels.

    `train_images` and `test_images` count per class; the test images are split evenly over the two defect types, the rest
    is good. Masks are 8-bit, 0 or 255. The same seed gives the same bytes, and more images leave the earlier ones alone.
    """
    defective = test_images // 3
    for name, defect_types in DEFECTS.items():
        for index in range(train_images):
            picture, _ = draw_image(seed, name, "train", GOOD, index, image_size)
            _save(picture, root / name / "train" / GOOD / f"{index:03d}.png")
        for defect_type in (GOOD, *defect_types):
            count = defective if defect_type != GOOD else test_images - 2 * defective
            for index in range(count):
                picture, mask = draw_image(seed, name, "test", defect_type, index, image_size)
                _save(picture, root / name / "test" / defect_type / f"{index:03d}.png")
                if defect_type != GOOD:
                    mask_image = Image.fromarray(mask.astype(np.uint8) * 255)
                    _save(mask_image, root / name / "ground_truth" / defect_type / f"{index:03d}_mask.png")


def draw_image(
    seed: int, name: str, phase: str, defect_type: str, index: int, image_size: int, *, without_defect: bool = False
) -> tuple[Image.Image, NDArray[np.bool_]]:
    """One image and its mask of anomalous pixels, (image_size, image_size) bool, all False for a good one.

    `without_defect` gives the same picture before it got its defect, and an empty mask.
    """
    key = ("mvtec", name, f"{phase}/{defect_type}", index)
    rng = image_rng(seed, *key, "object")
    canvas = Canvas(rng, image_size, image_size, light_angle=-2.2 + rng.normal(0, 0.08 * NORMAL_VARIATION))
    exposure = 1 + rng.normal(0, 0.035 * NORMAL_VARIATION)
    shown = GOOD if without_defect else defect_type
    _PAINTERS[name](canvas, shown, image_rng(seed, *key, "defect"))
    mask = canvas.covered() if shown != GOOD else np.zeros((image_size, image_size), bool)
    canvas.rng = image_rng(seed, *key, "sensor")
    return canvas.photograph(noise_level=0.012, exposure=exposure), mask


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, compress_level=1)


def _wood(canvas: Canvas, defect_type: str, defect_rng: Rng) -> None:
    rng = canvas.rng
    x, y = canvas.axes()
    warp = canvas.noise("cloud", 1.6) * 0.05 + canvas.noise("fibre", 2.0) * 0.02
    drift = rng.normal(0, 0.03 * NORMAL_VARIATION) * (x - 0.5)
    rings = np.sin((y + drift + warp) * rng.uniform(55, 75) + rng.uniform(0, 6))
    tone = 0.5 + 0.17 * rings + 0.10 * canvas.noise("fibre", 0.8) + 0.03 * canvas.noise("grain")
    dark = plane(jittered(rng, (0.46, 0.29, 0.16), 0.035 * NORMAL_VARIATION))
    light = plane(jittered(rng, (0.80, 0.60, 0.39), 0.03 * NORMAL_VARIATION))
    canvas.rgb[:] = dark + np.clip(tone, 0, 1) * (light - dark)
    canvas.rgb *= 1 + 0.06 * (x + y - 1)
    pores = np.stack([rng.uniform(0, 1, 80), rng.uniform(0, 1, 80), rng.uniform(0.01, 0.05, 80)], 1) * canvas.width
    dashes = [[(left, top), (left + length, top)] for left, top, length in pores]
    canvas.draw(dashes, (0.25, 0.14, 0.07), matter(FLAT, 0.4), stroke=1.0)
    canvas.start_coverage()
    pen = Pen(canvas, (canvas.width / 2, canvas.height / 2), (canvas.width, canvas.height))
    canvas.rng = rng = defect_rng
    if defect_type == "hole":
        for _ in range(rng.integers(1, 3)):
            _hole(pen, rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.045, 0.07) * DEFECT_SIZE)
    elif defect_type == "scratch":
        for _ in range(rng.integers(1, 4)):
            start = (rng.uniform(0.15, 0.6), rng.uniform(0.15, 0.6))
            path = wandering(rng, start, rng.uniform(0.4, 1.4), rng.uniform(0.25, 0.42) * DEFECT_SIZE, 0.06)
            pen.line(path, 0.016, (0.93, 0.80, 0.62), Finish(relief=0.8, opacity=0.55 * DEFECT_CONTRAST))


def _hole(pen: Pen, x: float, y: float, radius: float) -> None:
    outline = wobbly(pen.rng, x, y, radius, 0.35)
    pen.blob(outline, (0.34, 0.20, 0.11), Finish(relief=-0.7, bevel=0.2, opacity=0.6 * DEFECT_CONTRAST))
    inner = wobbly(pen.rng, x, y, radius * 0.55, 0.4)
    pen.blob(inner, (0.10, 0.06, 0.04), Finish(relief=0, blur=0.08, opacity=0.65 * DEFECT_CONTRAST))


def _dark_table(canvas: Canvas, colour: tuple[float, float, float]) -> None:
    """An evenly lit backdrop with slight unevenness."""
    x, y = canvas.axes()
    uneven = 1 + 0.05 * canvas.noise("cloud") + 0.05 * canvas.noise("grain") - 0.12 * (x + y - 1)
    canvas.rgb[:] = uneven * plane(jittered(canvas.rng, colour, 0.02))


def _hazelnut(canvas: Canvas, defect_type: str, defect_rng: Rng) -> None:
    rng = canvas.rng
    _dark_table(canvas, (0.10, 0.11, 0.12))
    side = canvas.width * rng.uniform(0.68, 0.78)
    centre = tuple(canvas.width * (0.5 + rng.normal(0, 0.02 * NORMAL_VARIATION, 2)))
    pen = Pen(canvas, centre, (side, side * rng.uniform(1.0, 1.1)), angle=rng.normal(0, 0.35 * NORMAL_VARIATION))
    shell = jittered(rng, (0.60, 0.36, 0.19), 0.05 * NORMAL_VARIATION)
    body = rounded(
        [(0.5, -0.02), (0.8, 0.08), (0.98, 0.4), (0.9, 0.8), (0.5, 0.98), (0.1, 0.8), (0.02, 0.4), (0.2, 0.08)]
    )
    pen.shadow(body, (0.05, 0.06), 0.05, 0.75)
    canvas.start_coverage()
    pen.poly(body, shell, Finish(relief=1.0, bevel=0.26, gloss=0.12, noise="cloud", noise_strength=0.05))
    shell_weight = canvas.coverage.astype(np.float32) / 255
    canvas.clip = shell_weight
    for tone, width in ((0.6, 0.008), (0.75, 0.014), (1.35, 0.01)):  # fibres of the shell run from tip to cap
        bends = rng.uniform(-1, 1, 15)
        ends = rng.uniform(0.5, 0.92, 15)
        paths = [
            [(0.5 + bend * 0.46 * float(np.sin(3.14 * v)) ** 0.7, v) for v in np.linspace(0.06, end, 6).tolist()]
            for bend, end in zip(bends.tolist(), ends.tolist(), strict=True)
        ]
        pen.lines(paths, width, scaled(shell, tone), matter(FLAT, 0.2))
    cap = [(0.28, 0.79), (0.4, 0.70), (0.6, 0.70), (0.72, 0.79), (0.75, 1.0), (0.25, 1.0)]
    cap_tone = jittered(rng, (0.74, 0.58, 0.40), 0.04 * NORMAL_VARIATION)
    cap_finish = Finish(relief=0.5, bevel=0.2, noise="grain", noise_strength=0.14, opacity=0.9)
    pen.blob(cap, cap_tone, cap_finish)
    canvas.start_coverage()
    canvas.rng = rng = defect_rng
    if defect_type == "crack":
        angle = rng.uniform(0.9, 2.2)
        path = wandering(rng, (rng.uniform(0.3, 0.7), 0.12), angle, rng.uniform(0.5, 0.65) * DEFECT_SIZE, 0.25)
        pen.line(path, 0.05, (0.84, 0.66, 0.44), matter(ROUND, DEFECT_CONTRAST))
        pen.line(path, 0.02, (0.06, 0.03, 0.02), matter(FLAT, min(1.0, DEFECT_CONTRAST + 0.2)))
    elif defect_type == "print":
        _stamp(pen, rng.uniform(0.33, 0.6), rng.uniform(0.25, 0.5))
    canvas.clip = None


def _stamp(pen: Pen, x: float, y: float) -> None:
    """A few pale letters printed on the shell, as a bar and bows."""
    ink = Finish(relief=0, opacity=DEFECT_CONTRAST)
    height, advance, tone = 0.17 * DEFECT_SIZE, 0.10 * DEFECT_SIZE, hsv(0.12, 0.1, 0.9)
    for letter in range(pen.rng.integers(2, 4)):
        left = x + (letter - 1) * advance
        pen.line([(left, y), (left, y + height)], 0.028, tone, ink)
        bow = [(left, y), (left + 0.6 * advance, y + 0.2 * height), (left, y + 0.5 * height)]
        tail = [(left + 0.6 * advance, y + 0.75 * height), (left, y + height)]
        pen.line([*bow, *tail][: pen.rng.integers(3, 6)], 0.028, tone, ink)


def _metal_nut(canvas: Canvas, defect_type: str, defect_rng: Rng) -> None:
    rng = canvas.rng
    _dark_table(canvas, (0.17, 0.18, 0.19))
    side = canvas.width * rng.uniform(0.82, 0.86)
    centre = (canvas.width * (0.5 + rng.normal(0, 0.005)), canvas.height * (0.5 + rng.normal(0, 0.005)))
    turn = rng.normal(0, 0.025 * NORMAL_VARIATION)
    pen = Pen(canvas, centre, (side, side), angle=turn)
    steel = jittered(rng, (0.50, 0.49, 0.47), 0.03 * NORMAL_VARIATION)
    metal = Finish(relief=0.9, bevel=0.07, gloss=0.45, noise="fibre", noise_strength=0.04)
    bent = int(defect_rng.integers(0, 4)) if defect_type == "bent" else -1
    tilt = float(defect_rng.choice([-1, 1]) * defect_rng.uniform(0.95, 1.25) * DEFECT_SIZE)
    pen.shadow(oval(0.5, 0.5, 0.45, 0.45), (0.035, 0.045), 0.03, 0.7)
    outlines = [_tooth(quarter, tilt if quarter == bent else 0.0) for quarter in range(4)]
    for outline in outlines:
        pen.shadow(outline, (0.03, 0.04), 0.02, 0.5)
    for quarter, outline in enumerate(outlines):  # a bent tooth leans out of the plane and catches the light
        pen.poly(outline, scaled(steel, 1.6 if quarter == bent else 0.93), metal)
    pen.oval(0.5, 0.5, 0.385, 0.385, steel, metal)
    pen.oval(0.5, 0.5, 0.31, 0.31, scaled(steel, 0.62), FLAT)
    face = Finish(relief=0.5, bevel=0.04, noise="fibre", noise_strength=0.03)
    pen.oval(0.5, 0.5, 0.30, 0.30, scaled(steel, 1.08), face)
    _turned_shine(canvas, pen)
    pen.oval(0.5, 0.5, 0.185, 0.185, scaled(steel, 0.55), Finish(relief=-0.9, bevel=0.12))
    pen.oval(0.5, 0.5, 0.15, 0.15, (0.13, 0.135, 0.14), MATTE)
    canvas.start_coverage()
    canvas.rng = defect_rng
    if defect_type == "bent":
        # anomalous is where the tooth now is and where it should have been, the ring under it excepted
        pen.polys([outlines[bent], _tooth(bent, 0.0)], steel, matter(FLAT, 0.0))
        ring = Image.new("L", (canvas.width, canvas.height))
        ImageDraw.Draw(ring).polygon([tuple(point) for point in pen.place(oval(0.5, 0.5, 0.38, 0.38))], fill=255)
        canvas.coverage[np.asarray(ring) > 0] = 0
    elif defect_type == "scratch":
        _scratch_ring(canvas, pen)


def _turned_shine(canvas: Canvas, pen: Pen) -> None:
    """The bright and dark wedges that concentric tool marks make on a turned face."""
    x, y = canvas.axes()
    side = float(pen.size[0])
    dx = x * (canvas.width / side) - float(pen.centre[0]) / side
    dy = y * (canvas.height / side) - float(pen.centre[1]) / side
    square = dx * dx + dy * dy + np.float32(1e-6)
    twice_angle = ((dx * dx - dy * dy) * 0.62 + 2 * dx * dy * 0.78) / square  # cosine of 2 (angle - 0.45)
    shine = 1 + 0.2 * twice_angle + 0.03 * np.cos(np.sqrt(square) * 200)
    canvas.rgb *= np.where(square < 0.365**2, shine, np.float32(1))


def _tooth(quarter: int, tilt: float) -> list[Point]:
    """Outline of one of the four teeth; `tilt` turns it about its root and pulls it in."""
    shape = np.asarray([(-0.13, -0.30), (-0.11, -0.485), (0.09, -0.485), (0.135, -0.30)])
    if tilt:
        root = np.asarray([0.0, -0.36])
        turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        shape = (shape - root) @ turn * [1.0, 0.9] + root
    angle = quarter * np.pi / 2 + 0.4
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return [(0.5 + float(x), 0.5 + float(y)) for x, y in shape @ turn]


def _scratch_ring(canvas: Canvas, pen: Pen) -> None:
    """Scratches on the washer's face, bright with a dark flank."""
    rng = canvas.rng
    weight = Image.new("L", (canvas.width, canvas.height))
    pencil = ImageDraw.Draw(weight)
    pencil.polygon([tuple(point) for point in pen.place(oval(0.5, 0.5, 0.36, 0.36))], fill=255)
    pencil.polygon([tuple(point) for point in pen.place(oval(0.5, 0.5, 0.19, 0.19))], fill=0)
    canvas.clip = np.asarray(weight, np.float32) / 255
    middle = rng.uniform(0, 6.28)
    for _ in range(rng.integers(2, 5)):
        angle = middle + rng.normal(0, 0.3)
        start = (0.5 + 0.27 * float(np.cos(angle)), 0.5 + 0.27 * float(np.sin(angle)))
        path = wandering(rng, start, angle + 1.2 + rng.normal(0, 0.4), rng.uniform(0.18, 0.3) * DEFECT_SIZE, 0.12)
        pen.line(path, 0.042, (0.12, 0.11, 0.11), matter(FLAT, DEFECT_CONTRAST + 0.2))
        shifted = [(x + 0.012, y + 0.012) for x, y in path]
        pen.line(shifted, 0.018, (0.97, 0.97, 0.95), matter(FLAT, DEFECT_CONTRAST + 0.2))
    canvas.clip = None


_PAINTERS: dict[str, Callable[[Canvas, str, Rng], None]] = {
    "hazelnut": _hazelnut,
    "metal_nut": _metal_nut,
    "wood": _wood,
}
