"""Places for the generated COCO scenes. Each fills the canvas and returns the height (0 top, 1 bottom) where ground begins."""

import numpy as np

from invad.data.embedded.drawing import (
    CLOTH,
    FLAT,
    FUR,
    GLOSSY,
    MATTE,
    WOOD,
    Canvas,
    Colour,
    Pen,
    box,
    hsv,
    jittered,
    matter,
    plane,
    scaled,
    wobbly,
)


def _pen(canvas: Canvas) -> Pen:
    return Pen(canvas, (canvas.width / 2, canvas.height / 2), (canvas.width, canvas.height))


def _band(
    canvas: Canvas,
    y0: float,
    y1: float,
    top: Colour,
    bottom: Colour,
    kind: str = "cloud",
    strength: float = 0.05,
    zoom: float = 1.0,
) -> None:
    """Fill the rows from y0 to y1 with a vertical gradient and noise."""
    first, last = round(y0 * canvas.height), round(y1 * canvas.height)
    ramp = np.linspace(0, 1, last - first, dtype=np.float32)[:, None]
    start, end = plane(top), plane(bottom)
    texture = 1 + np.float32(strength) * canvas.noise(kind, zoom)[first:last]
    canvas.rgb[:, first:last] = (start + ramp * (end - start)) * texture


def _sky(canvas: Canvas, until: float) -> None:
    blue = jittered(canvas.rng, (0.45, 0.63, 0.86), 0.08)
    _band(canvas, 0, until, blue, (0.82, 0.88, 0.93), strength=0.0)
    rows = round(until * canvas.height)
    cloud = np.clip(canvas.noise("cloud", 1.5)[:rows] * 0.5 - 0.1 + canvas.rng.uniform(-0.2, 0.3), 0, 0.75)
    canvas.rgb[:, :rows] += cloud * (np.float32(0.96) - canvas.rgb[:, :rows])


def sky(canvas: Canvas) -> float:
    """Open sky over far hills."""
    _sky(canvas, 1.0)
    pen = _pen(canvas)
    ridge = [(x, 0.93 + 0.04 * float(canvas.rng.normal())) for x in np.linspace(-0.05, 1.05, 9).tolist()]
    pen.poly([*ridge, (1.05, 1.1), (-0.05, 1.1)], (0.30, 0.40, 0.34), FUR)
    return 0.25


def street(canvas: Canvas) -> float:
    """Houses along a road with a pavement."""
    rng, pen = canvas.rng, _pen(canvas)
    _sky(canvas, 0.5)
    left = -0.05
    while left < 1.0:
        right, top = left + rng.uniform(0.2, 0.36), rng.uniform(0.03, 0.26)
        wall = hsv(rng.uniform(0.02, 0.13), rng.uniform(0.1, 0.45), rng.uniform(0.4, 0.75))
        pen.rect(left, top, right, 0.56, wall, MATTE)
        columns = np.linspace(left + 0.03, right - 0.06, 4).tolist()
        pen.polys(
            [box(x, y, x + 0.035, y + 0.06) for x in columns for y in (top + 0.05, top + 0.15, top + 0.25)],
            scaled(wall, 0.45),
            GLOSSY,
        )
        left = right
    _band(canvas, 0.53, 0.62, (0.66, 0.64, 0.61), (0.60, 0.58, 0.56), "grain", 0.05)
    _band(canvas, 0.62, 1.0, (0.32, 0.33, 0.34), (0.40, 0.40, 0.41), "grain", 0.07)
    pen.line([(-0.1, 0.625), (1.1, 0.625)], 0.015, (0.72, 0.71, 0.68))
    pen.polys(
        [[(x, 0.80), (x + 0.14, 0.80), (x + 0.15, 0.83), (x - 0.01, 0.83)] for x in (0.02, 0.38, 0.74)],
        (0.85, 0.84, 0.78),
        MATTE,
    )
    return 0.60


def meadow(canvas: Canvas) -> float:
    """Grass, trees and hills, green or dry."""
    rng, pen = canvas.rng, _pen(canvas)
    horizon = rng.uniform(0.38, 0.48)
    _sky(canvas, horizon + 0.02)
    ridge = [(x, horizon - 0.06 + 0.04 * float(rng.normal())) for x in np.linspace(-0.05, 1.05, 8).tolist()]
    pen.poly([*ridge, (1.05, horizon + 0.1), (-0.05, horizon + 0.1)], (0.38, 0.49, 0.46), MATTE)
    grass = hsv(rng.uniform(0.15, 0.27), rng.uniform(0.45, 0.6), rng.uniform(0.48, 0.62))
    _band(canvas, horizon, 1.0, scaled(grass, 1.1), scaled(grass, 0.8), "grass", 0.15)
    for x in rng.uniform(-0.05, 1.05, rng.integers(2, 6)).tolist():
        size = rng.uniform(0.06, 0.12)
        pen.rect(x - 0.01, horizon - 0.02, x + 0.01, horizon + 0.05, (0.28, 0.20, 0.14), MATTE)
        pen.blob(wobbly(rng, x, horizon - 0.5 * size, size, 0.4), jittered(rng, (0.22, 0.36, 0.18)), FUR)
    return horizon + 0.08


def coast(canvas: Canvas) -> float:
    """Sea and a strip of sand."""
    _sky(canvas, 0.42)
    water = jittered(canvas.rng, (0.18, 0.42, 0.54), 0.08)
    _band(canvas, 0.40, 0.82, scaled(water, 1.1), water, "fibre", 0.14, 1.5)
    pen = _pen(canvas)
    shore = [(x, 0.80 + 0.015 * float(canvas.rng.normal())) for x in np.linspace(-0.05, 1.05, 9).tolist()]
    _band(canvas, 0.8, 1.0, (0.83, 0.74, 0.56), (0.76, 0.66, 0.48), "grain", 0.06)
    pen.line(shore, 0.025, (0.93, 0.95, 0.95), matter(CLOTH, 0.8))
    return 0.56


def snow(canvas: Canvas) -> float:
    """A white slope with firs."""
    rng, pen = canvas.rng, _pen(canvas)
    _sky(canvas, 0.5)
    pen.poly(
        [(-0.1, 0.5), (0.2, 0.18), (0.42, 0.36), (0.7, 0.12), (1.1, 0.45), (1.1, 0.6), (-0.1, 0.6)],
        (0.72, 0.77, 0.84),
        MATTE,
    )
    _band(canvas, 0.45, 1.0, (0.90, 0.92, 0.95), (0.82, 0.86, 0.92), "cloud", 0.03)
    for x in rng.uniform(0, 1, 6).tolist():
        size = rng.uniform(0.08, 0.15)
        pen.poly([(x, 0.5 - 1.6 * size), (x + 0.4 * size, 0.52), (x - 0.4 * size, 0.52)], (0.13, 0.24, 0.19), FUR)
    return 0.58


def court(canvas: Canvas) -> float:
    """A playing field with lines, in front of a fence."""
    rng, pen = canvas.rng, _pen(canvas)
    _band(canvas, 0, 0.36, (0.24, 0.36, 0.26), (0.16, 0.27, 0.18), "cloud", 0.2)
    posts = [[(x, 0.05), (x, 0.36)] for x in np.linspace(0.02, 0.98, 9).tolist()]
    pen.lines([*posts, [(-0.1, 0.05), (1.1, 0.05)], [(-0.1, 0.2), (1.1, 0.2)]], 0.012, (0.5, 0.53, 0.5), MATTE)
    ground = [(0.33, 0.52, 0.24), (0.70, 0.42, 0.28), (0.24, 0.44, 0.56)][rng.integers(0, 3)]
    _band(canvas, 0.36, 1.0, jittered(rng, ground), scaled(ground, 0.88), "grain", 0.07)
    shift = rng.uniform(-0.2, 0.2)
    pen.lines(
        [
            [(-0.1, 0.52), (1.1, 0.52)],
            [(0.35 + shift, 0.52), (0.1 + shift, 1.1)],
            [(0.75 + shift, 0.52), (1.05 + shift, 1.1)],
        ],
        0.02,
        (0.92, 0.92, 0.9),
        MATTE,
    )
    return 0.55


def room(canvas: Canvas) -> float:
    """A papered wall with a picture or a window, and a wooden floor."""
    rng, pen = canvas.rng, _pen(canvas)
    wall = hsv(rng.uniform(0.05, 0.65), rng.uniform(0.08, 0.3), rng.uniform(0.68, 0.86))
    _band(canvas, 0, 0.62, wall, scaled(wall, 0.9), "cloud", 0.015)
    if rng.integers(0, 2):
        stripes = [box(x, -0.1, x + 0.035, 0.62) for x in np.arange(0.0, 1.0, 0.07).tolist()]
        pen.polys(stripes, scaled(wall, 0.92), FLAT)
    left = rng.uniform(0.05, 0.6)
    pen.rect(left, 0.06, left + 0.28, 0.32, (0.90, 0.89, 0.85), GLOSSY)
    pen.rect(left + 0.02, 0.08, left + 0.26, 0.30, hsv(rng.uniform(0.4, 0.65), 0.35, 0.8), CLOTH)
    if rng.integers(0, 2):
        pen.lines(
            [[(left + 0.14, 0.08), (left + 0.14, 0.30)], [(left + 0.02, 0.19), (left + 0.26, 0.19)]],
            0.02,
            (0.90, 0.89, 0.85),
        )
    floor = jittered(rng, (0.55, 0.38, 0.24), 0.06)
    _band(canvas, 0.62, 1.0, floor, scaled(floor, 1.15), "fibre", 0.12)
    pen.lines([[(-0.1, y), (1.1, y)] for y in (0.66, 0.72, 0.80, 0.90)], 0.006, scaled(floor, 0.55), FLAT)
    pen.rect(-0.1, 0.585, 1.1, 0.625, (0.90, 0.89, 0.86), MATTE)
    return 0.70


def tabletop(canvas: Canvas) -> float:
    """A wooden table seen from the front and above."""
    rng, pen = canvas.rng, _pen(canvas)
    wall = hsv(rng.uniform(0.02, 0.6), rng.uniform(0.1, 0.3), rng.uniform(0.5, 0.8))
    _band(canvas, 0, 0.3, scaled(wall, 0.9), wall, "cloud", 0.03)
    wood = jittered(rng, (0.60, 0.41, 0.25), 0.08)
    _band(canvas, 0.28, 1.0, scaled(wood, 0.85), scaled(wood, 1.15), "fibre", 0.13, 1.4)
    pen.lines([[(-0.1, y), (1.1, y)] for y in (0.29, 0.42, 0.60, 0.82)], 0.007, scaled(wood, 0.6), FLAT)
    if rng.integers(0, 2):
        cloth = hsv(rng.uniform(), 0.35, 0.75)
        pen.poly([(0.16, 0.36), (0.84, 0.36), (1.02, 1.05), (-0.02, 1.05)], cloth, CLOTH)
        pen.lines(
            [[(0.16 + 0.68 * t, 0.36), (-0.02 + 1.04 * t, 1.05)] for t in (0.2, 0.5, 0.8)],
            0.03,
            scaled(cloth, 0.85),
            FLAT,
        )
    return 0.5


def desk(canvas: Canvas) -> float:
    """A plain desk against a wall."""
    rng, pen = canvas.rng, _pen(canvas)
    wall = hsv(rng.uniform(0.08, 0.6), rng.uniform(0.03, 0.15), rng.uniform(0.65, 0.85))
    _band(canvas, 0, 0.44, wall, scaled(wall, 0.88), "cloud", 0.02)
    top = hsv(rng.uniform(0.06, 0.1), rng.uniform(0.15, 0.5), rng.uniform(0.5, 0.85))
    _band(canvas, 0.42, 1.0, scaled(top, 0.92), top, "fibre", 0.06)
    pen.line([(-0.1, 0.425), (1.1, 0.425)], 0.012, scaled(top, 0.6), WOOD)
    return 0.55


def tiled(canvas: Canvas) -> float:
    """Tiled wall and floor of a kitchen or a bathroom."""
    rng, pen = canvas.rng, _pen(canvas)
    tile = hsv(rng.uniform(0.4, 0.62), rng.uniform(0.04, 0.22), rng.uniform(0.75, 0.9))
    _band(canvas, 0, 0.68, tile, scaled(tile, 0.93), "cloud", 0.02)
    grout = [[(x, -0.1), (x, 0.66)] for x in np.arange(0.0, 1.01, 0.125).tolist()]
    grout += [[(-0.1, y), (1.1, y)] for y in np.arange(0.02, 0.66, 0.125).tolist()]
    pen.lines(grout, 0.009, scaled(tile, 0.8), FLAT)
    floor = jittered(rng, (0.50, 0.49, 0.47), 0.06)
    _band(canvas, 0.66, 1.0, scaled(floor, 0.9), floor, "grain", 0.04)
    seams = [[(0.5 + 0.6 * t, 0.66), (0.5 + 1.3 * t, 1.05)] for t in np.linspace(-1, 1, 9).tolist()]
    pen.lines([*seams, [(-0.1, 0.75), (1.1, 0.75)], [(-0.1, 0.87), (1.1, 0.87)]], 0.008, scaled(floor, 0.7), FLAT)
    return 0.72
