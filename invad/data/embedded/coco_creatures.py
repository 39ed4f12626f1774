"""People and animals of the generated COCO scenes, which have poses; like all objects in the unit box of a pen, facing right."""

import numpy as np

from invad.data.embedded.drawing import (
    CLOTH,
    FUR,
    GLOSSY,
    MATTE,
    ROUND,
    Colour,
    Finish,
    Pen,
    Point,
    hsv,
    scaled,
    wobbly,
)
from invad.data.embedded.parts import BLACK, SKIN, WHITE

_WOOL = Finish(relief=0.8, bevel=0.3, noise="grain", noise_strength=0.10)


def person(p: Pen, _tone: Colour, _words: list[str]) -> None:
    """Draw an upright figure with arms and legs; skin, hair and clothes come in all colours."""
    rng = p.rng
    skin = scaled(SKIN, rng.uniform(0.45, 1.05))
    shirt = hsv(rng.uniform(), rng.uniform(0.2, 0.75), rng.uniform(0.35, 0.9))
    trousers, hair = hsv(rng.uniform(0.52, 0.7), 0.5, rng.uniform(0.15, 0.5)), hsv(0.08, 0.6, rng.uniform(0.08, 0.5))
    swing, lift = rng.uniform(-0.14, 0.14), rng.uniform(-0.16, 0.1)
    for hip, foot in ((0.42, 0.38 - swing), (0.58, 0.62 + swing)):
        p.line([(hip, 0.5), ((hip + foot) / 2 + 0.03, 0.73), (foot, 0.96)], 0.21, trousers, CLOTH)
        p.oval(foot + 0.06, 0.975, 0.13, 0.024, BLACK, MATTE)
    p.line([(0.5, 0.12), (0.5, 0.2)], 0.15, scaled(skin, 0.85), ROUND)
    p.blob([(0.2, 0.17), (0.8, 0.17), (0.74, 0.4), (0.72, 0.57), (0.28, 0.57), (0.26, 0.4)], shirt, CLOTH)
    for shoulder, elbow, hand in ((0.25, 0.14, (0.12, 0.52)), (0.75, 0.86, (0.90, 0.52 + lift))):
        p.line([(shoulder, 0.22), (elbow, 0.38), hand], 0.15, scaled(shirt, 0.9), CLOTH)
        p.oval(*hand, 0.07, 0.03, skin)
    p.oval(0.5, 0.085, 0.17, 0.085, skin)
    p.blob([(0.3, 0.09), (0.33, -0.01), (0.68, -0.01), (0.7, 0.1), (0.62, 0.05), (0.4, 0.05)], hair, FUR)


def animal(p: Pen, tone: Colour, words: list[str]) -> None:
    """Draw an animal from its side: lengths leg, neck, head and girth in box heights, `pattern` of the coat, `part` of the species."""
    options = dict(word.split("=") for word in words)
    leg, neck, head, girth = (float(options[name]) for name in ("leg", "neck", "head", "girth"))
    pattern, part = options.get("pattern", ""), options.get("part", "")
    across = float(p.size[1] / p.size[0])
    middle, dark, coat = 1 - leg - girth / 2, scaled(tone, 0.72), _WOOL if part == "wool" else FUR
    x, y = 0.97 - 1.25 * head * across, max(middle - neck, head)  # of the head
    thick, step = {"trunk": 0.22, "flat": 0.13}.get(part, 0.085), p.rng.uniform(-0.04, 0.04)
    p.lines([[(0.27, middle), (0.27 + step, 0.985)], [(0.65, middle), (0.65 - step, 0.985)]], thick, dark, FUR)
    p.line([(0.12, middle - 0.2 * girth), (0.03, middle + 0.1), (0.04, middle + 0.6 * girth)], 0.05, dark, FUR)
    p.lines([[(0.19, middle), (0.19 - step, 0.985)], [(0.73, middle), (0.73 + step, 0.985)]], thick, tone, FUR)
    body = ((0.08, -0.5), (0.5, -0.46), (0.84, -0.56), (0.86, 0.3), (0.5, 0.56), (0.08, 0.5))
    p.blob([(along, middle + girth * down) for along, down in body], tone, coat)
    p.line([(0.74, middle - 0.1 * girth), (x, y)], min(0.3, 1.1 * head), tone, coat)
    if pattern:
        p.canvas.clip = p.canvas.coverage.astype(np.float32) / 255
        _coat_pattern(p, pattern, middle, girth, (x, y))
        p.canvas.clip = None
    face = dark if part == "wool" else tone
    p.oval(x, y, 1.05 * head * across, head, face, FUR)
    if part != "flat":
        p.oval(x + 0.9 * head * across, y + 0.35 * head, 0.7 * head * across, 0.55 * head, scaled(face, 0.9))
    if part == "trunk":
        p.line([(x + 0.05, y), (1.0, y + 0.22), (1.0, 0.72), (1.05, 0.82)], 0.12, tone, FUR)
        p.blob([(0.62, y - 0.16), (0.78, y - 0.2), (0.80, y + 0.2), (0.68, y + 0.3)], dark, FUR)
        p.line([(0.90, y + 0.16), (1.06, y + 0.3)], 0.04, WHITE, GLOSSY)
        p.oval(x + 0.02, y - 0.03, 0.02, 0.025, BLACK, GLOSSY)
        return
    if part == "horns":
        p.lines([[(x + d, y - 0.8 * head), (x + 1.5 * d, y - 1.7 * head)] for d in (-0.04, 0.02)], 0.04, WHITE, ROUND)
    elif part == "mane":
        p.line([(0.70, middle - 0.5 * girth), (x - 0.06, y - 0.8 * head)], 0.09, BLACK, FUR)
    ear = ((0.0, -0.6), (-0.03, -1.6), (0.06, -0.7))
    ears = [[(x + (d * head + dx) * across, y + dy * head) for dx, dy in ear] for d in (-0.7, 0.15)]
    p.polys(ears, dark, FUR)
    p.oval(x + 0.25 * head * across, y - 0.2 * head, 0.16 * head * across, 0.16 * head, BLACK, GLOSSY)


def _coat_pattern(p: Pen, pattern: str, middle: float, girth: float, head: Point) -> None:
    if pattern == "stripes":
        body = [
            [(x, middle - girth), (x + 0.03, middle), (x - 0.02, 1.0)] for x in np.arange(0.08, 0.9, 0.075).tolist()
        ]
        places = [(0.72 + t * (head[0] - 0.72), middle - t * 0.5) for t in (0.3, 0.6, 0.9)]
        p.lines(body + [[(x - 0.09, y - 0.1), (x + 0.12, y)] for x, y in places], 0.045, BLACK, MATTE)
        return
    spots = pattern == "spots"
    count, radius, roughness = (30, 0.045, 0.3) if spots else (6, 0.11, 0.7)
    low, high = (head[1], 0.8) if spots else (middle - girth / 2, middle + girth / 2)
    places = np.stack([p.rng.uniform(0.08, 0.92, count), p.rng.uniform(low, high, count)], 1).tolist()
    tone = (0.48, 0.27, 0.11) if spots else (0.16, 0.12, 0.10)
    p.polys([wobbly(p.rng, x, y, radius, roughness, 9) for x, y in places], tone, MATTE)
