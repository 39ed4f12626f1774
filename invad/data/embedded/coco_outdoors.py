"""How things outdoors look: one routine per kind of object, for the generated COCO scenes.

Every routine draws in the unit box of its `Pen` (0 is left and top, 1 right and bottom; the object faces right) in the
given main colour. Strokes are fractions of the box's smaller side.
"""

import numpy as np

from invad.data.embedded.drawing import (
    BLACK,
    BROWN,
    CLOTH,
    FLAT,
    FUR,
    GLOSSY,
    MATTE,
    METAL,
    PANE,
    ROUND,
    SKIN,
    STEEL,
    WHITE,
    WOOD,
    Colour,
    Finish,
    Pen,
    Point,
    box,
    hsv,
    matter,
    oval,
    scaled,
    wobbly,
)


def person(p: Pen, tone: Colour) -> None:
    """An upright figure with arms and legs."""
    rng = p.rng
    tone = hsv(rng.uniform(), rng.uniform(0.2, 0.75), rng.uniform(0.35, 0.9))  # clothes come in all colours
    skin = scaled(SKIN, rng.uniform(0.45, 1.05))
    trousers, hair = hsv(rng.uniform(0.52, 0.7), 0.5, rng.uniform(0.15, 0.5)), hsv(0.08, 0.6, rng.uniform(0.08, 0.5))
    swing, lift = rng.uniform(-0.14, 0.14), rng.uniform(-0.16, 0.1)
    feet = ((0.38 - swing, 0.96), (0.62 + swing, 0.96))
    for hip, foot in zip((0.42, 0.58), feet, strict=True):
        p.line([(hip, 0.5), ((hip + foot[0]) / 2 + 0.03, 0.73), foot], 0.21, trousers, CLOTH)
        p.oval(foot[0] + 0.06, 0.975, 0.13, 0.024, BLACK, MATTE)
    p.line([(0.5, 0.12), (0.5, 0.2)], 0.15, scaled(skin, 0.85), ROUND)
    p.blob([(0.2, 0.17), (0.8, 0.17), (0.74, 0.4), (0.72, 0.57), (0.28, 0.57), (0.26, 0.4)], tone, CLOTH)
    hands = ((0.12, 0.52), (0.90, 0.52 + lift))
    for shoulder, hand in zip((0.25, 0.75), hands, strict=True):
        p.line([(shoulder, 0.22), (0.5 + 1.45 * (shoulder - 0.5), 0.38), hand], 0.15, scaled(tone, 0.9), CLOTH)
        p.oval(*hand, 0.07, 0.03, skin)
    p.oval(0.5, 0.085, 0.17, 0.085, skin)
    p.blob([(0.3, 0.09), (0.33, -0.01), (0.68, -0.01), (0.7, 0.1), (0.62, 0.05), (0.4, 0.05)], hair, FUR)


def _wheel(p: Pen, x: float, y: float, radius: float) -> None:
    """A tyre with its hub; `radius` in box heights."""
    across = radius * p.size[1] / p.size[0]
    p.oval(x, y, across, radius, BLACK, MATTE)
    p.oval(x, y, 0.55 * across, 0.55 * radius, STEEL, METAL)


def car(p: Pen, tone: Colour) -> None:
    """A saloon car from the side."""
    p.rect(0.05, 0.72, 0.95, 0.9, BLACK)
    body = [
        (0.0, 0.5),
        (0.06, 0.44),
        (0.2, 0.40),
        (0.31, 0.08),
        (0.66, 0.06),
        (0.82, 0.40),
        (0.99, 0.50),
        (1.01, 0.84),
        (0.0, 0.86),
    ]
    p.blob(body, tone, GLOSSY)
    p.polys(
        [
            [(0.27, 0.4), (0.35, 0.15), (0.48, 0.14), (0.48, 0.4)],
            [(0.52, 0.4), (0.52, 0.14), (0.63, 0.14), (0.75, 0.4)],
        ],
        PANE,
        GLOSSY,
    )
    p.lines([[(0.5, 0.42), (0.5, 0.8)], [(0.04, 0.6), (0.96, 0.6)]], 0.015, scaled(tone, 0.6), FLAT)
    p.oval(0.96, 0.56, 0.025, 0.06, (1.0, 0.95, 0.75))
    p.oval(0.03, 0.54, 0.018, 0.06, (0.75, 0.1, 0.08))
    _wheel(p, 0.22, 0.83, 0.17)
    _wheel(p, 0.78, 0.83, 0.17)


def bus(p: Pen, tone: Colour, *, rail: bool = False) -> None:
    """A bus, or a railway coach with `rail`."""
    windows = 7 if rail else 5
    if rail:
        p.rect(-0.02, 0.93, 1.02, 1.0, (0.30, 0.27, 0.25))
    nose = [(1.0, 0.45), (1.03, 0.85)] if rail else [(1.0, 0.1), (1.0, 0.88)]
    p.poly([(0.0, 0.06), (0.03, 0.02), (0.88 if rail else 0.97, 0.02), *nose, (0.0, 0.88)], tone, GLOSSY)
    p.rect(0.0, 0.62, 1.01, 0.70, scaled(WHITE, 0.9), GLOSSY)
    step = 0.92 / windows
    p.polys([box(0.04 + i * step, 0.16, 0.04 + (i + 0.82) * step, 0.48) for i in range(windows)], PANE, GLOSSY)
    p.rect(0.8, 0.16, 0.89, 0.86, scaled(tone, 0.6))
    for x in (0.12, 0.24, 0.70, 0.86) if rail else (0.2, 0.76):
        _wheel(p, x, 0.88, 0.08 if rail else 0.11)


def truck(p: Pen, tone: Colour) -> None:
    """A lorry with a box body."""
    p.rect(0.02, 0.74, 0.97, 0.84, BLACK)
    p.rect(0.0, 0.03, 0.66, 0.76, scaled(WHITE, 0.92), METAL)
    p.lines([[(x, 0.06), (x, 0.73)] for x in (0.16, 0.33, 0.5)], 0.015, (0.6, 0.6, 0.6), FLAT)
    p.blob([(0.69, 0.2), (0.88, 0.2), (0.97, 0.5), (1.0, 0.8), (0.69, 0.8)], tone, GLOSSY)
    p.poly([(0.78, 0.27), (0.87, 0.27), (0.93, 0.48), (0.78, 0.48)], PANE, GLOSSY)
    for x in (0.15, 0.32, 0.82):
        _wheel(p, x, 0.86, 0.13)


def bike(p: Pen, tone: Colour, *, engine: bool = False) -> None:
    """A bicycle, or a motorcycle with `engine`."""
    radius = 0.27 if engine else 0.30
    across = radius * p.size[1] / p.size[0]
    rims = [[*oval(x, 0.7, across, radius), (x + across, 0.7)] for x in (0.21, 0.79)]
    p.lines(rims, 0.13 if engine else 0.055, BLACK)
    if engine:
        p.blob([(0.33, 0.5), (0.62, 0.5), (0.62, 0.86), (0.36, 0.86)], STEEL, METAL)
        p.line([(0.2, 0.82), (0.5, 0.86)], 0.07, STEEL, METAL)
        p.blob([(0.04, 0.36), (0.34, 0.4), (0.56, 0.3), (0.72, 0.3), (0.72, 0.52), (0.3, 0.56)], tone, GLOSSY)
        p.blob([(0.1, 0.31), (0.46, 0.36), (0.44, 0.46), (0.1, 0.4)], BLACK, CLOTH)
    else:
        p.lines(
            [[(0.21, 0.7), (0.46, 0.7), (0.37, 0.36), (0.21, 0.7)], [(0.46, 0.7), (0.70, 0.36), (0.38, 0.38)]],
            0.05,
            tone,
            METAL,
        )
        p.line([(0.29, 0.3), (0.43, 0.3)], 0.07, BLACK, CLOTH)
        p.lines([[(0.21, 0.7), (x, y)] for x, y in oval(0.21, 0.7, across, radius, 8)], 0.008, STEEL, FLAT)
        p.lines([[(0.79, 0.7), (x, y)] for x, y in oval(0.79, 0.7, across, radius, 8)], 0.008, STEEL, FLAT)
    p.line([(0.79, 0.7), (0.69, 0.24), (0.78, 0.16)], 0.05, STEEL, METAL)


def airplane(p: Pen, tone: Colour) -> None:
    """An airliner from the side and a little above."""
    p.poly([(0.08, 0.5), (0.0, 0.08), (0.09, 0.08), (0.22, 0.46)], scaled(tone, 0.8), GLOSSY)
    p.poly([(0.5, 0.48), (0.36, 0.14), (0.44, 0.14), (0.64, 0.48)], scaled(tone, 0.7), METAL)
    p.blob(
        [(0.02, 0.44), (0.2, 0.38), (0.85, 0.36), (1.02, 0.52), (0.85, 0.64), (0.2, 0.58), (0.04, 0.5)], WHITE, GLOSSY
    )
    p.polys([oval(x, 0.47, 0.012, 0.03, 10) for x in np.linspace(0.22, 0.82, 9).tolist()], PANE, FLAT)
    p.poly([(0.42, 0.56), (0.20, 0.96), (0.32, 0.96), (0.64, 0.56)], scaled(tone, 0.9), METAL)
    p.oval(0.45, 0.74, 0.07, 0.06, STEEL)


def boat(p: Pen, tone: Colour) -> None:
    """A sailing boat."""
    p.line([(0.46, 0.02), (0.46, 0.72)], 0.03, BROWN, WOOD)
    p.poly([(0.49, 0.04), (0.49, 0.62), (0.86, 0.62)], WHITE, CLOTH)
    p.poly([(0.43, 0.12), (0.43, 0.62), (0.16, 0.62)], scaled(WHITE, 0.85), CLOTH)
    p.poly([(0.0, 0.7), (1.0, 0.66), (0.86, 0.97), (0.16, 0.97)], tone, Finish(relief=0.7, bevel=0.3, gloss=0.4))
    p.line([(0.02, 0.73), (0.97, 0.70)], 0.04, scaled(WHITE, 0.9), GLOSSY)


def on_pole(p: Pen, tone: Colour, *, kind: str) -> None:
    """A traffic light, stop sign or parking meter ("light", "stop", "meter")."""
    p.rect(0.42, 0.3, 0.58, 1.0, (0.42, 0.43, 0.44), METAL)
    if kind == "stop":
        octagon = oval(0.5, 0.25, 0.5, 0.25, 8)
        p.poly(octagon, WHITE, GLOSSY)
        p.poly([(0.5 + 0.9 * (x - 0.5), 0.25 + 0.9 * (y - 0.25)) for x, y in octagon], tone, MATTE)
        p.lines([[(x, 0.21), (x, 0.29)] for x in (0.25, 0.42, 0.58, 0.75)], 0.1, WHITE, FLAT)
    elif kind == "light":
        p.pad(0.08, 0.0, 0.92, 0.6, 0.2, tone, GLOSSY)
        lit = int(p.rng.integers(0, 3))
        for lamp, hue in enumerate((0.0, 0.13, 0.38)):
            p.oval(0.5, 0.11 + 0.19 * lamp, 0.26, 0.08, hsv(hue, 0.9, 0.95 if lamp == lit else 0.3), GLOSSY)
    else:
        p.blob([(0.05, 0.1), (0.25, -0.02), (0.75, -0.02), (0.95, 0.1), (0.85, 0.45), (0.15, 0.45)], tone, METAL)
        p.rect(0.26, 0.09, 0.74, 0.21, PANE, GLOSSY)


def hydrant(p: Pen, tone: Colour) -> None:
    """A fire hydrant."""
    p.rect(0.12, 0.88, 0.88, 1.0, scaled(tone, 0.8), METAL)
    p.rect(0.25, 0.3, 0.75, 0.9, tone, ROUND)
    p.oval(0.5, 0.26, 0.34, 0.16, tone, GLOSSY)
    p.rect(0.42, 0.04, 0.58, 0.14, tone, METAL)
    p.polys([oval(0.14, 0.5, 0.14, 0.08), oval(0.86, 0.5, 0.14, 0.08)], scaled(tone, 0.8), GLOSSY)
    p.oval(0.5, 0.55, 0.14, 0.1, STEEL, METAL)


def bench(p: Pen, tone: Colour) -> None:
    """A park bench from the front."""
    p.lines(
        [
            [(0.1, 0.5), (0.08, 0.98)],
            [(0.9, 0.5), (0.92, 0.98)],
            [(0.12, 0.05), (0.12, 0.6)],
            [(0.88, 0.05), (0.88, 0.6)],
        ],
        0.08,
        BLACK,
        METAL,
    )
    p.polys([box(0, y, 1, y + 0.13) for y in (0.05, 0.24)], tone, WOOD)
    p.polys([box(0, y, 1, y + 0.09) for y in (0.5, 0.62)], scaled(tone, 1.15), WOOD)


def quadruped(
    p: Pen,
    tone: Colour,
    *,
    leg: float = 0.42,
    neck: float = 0.18,
    head: float = 0.13,
    girth: float = 0.40,
    pattern: str = "",
    part: str = "",
) -> None:
    """An animal in side view. Lengths in box heights; `pattern` of the coat, `part` that marks the species."""
    across = float(p.size[1] / p.size[0])
    middle = 1 - leg - girth / 2
    head_x, head_y = 0.97 - 1.25 * head * across, max(middle - neck, head)
    dark = scaled(tone, 0.72)
    coat = Finish(relief=0.8, bevel=0.3, noise="grain", noise_strength=0.10) if part == "wool" else FUR
    thick = {"trunk": 0.22, "flat": 0.13}.get(part, 0.085)
    step = p.rng.uniform(-0.04, 0.04)
    p.lines([[(x, middle), (x + s, 0.985)] for x, s in ((0.27, step), (0.65, -step))], thick, dark, FUR)
    p.line([(0.12, middle - 0.2 * girth), (0.03, middle + 0.1), (0.04, middle + 0.6 * girth)], 0.05, dark, FUR)
    p.lines([[(x, middle), (x - s, 0.985)] for x, s in ((0.19, step), (0.73, -step))], thick, tone, FUR)
    p.blob([(0.08, middle - girth / 2), (0.5, middle - 0.46 * girth), (0.84, middle - 0.56 * girth), (0.86, middle + 0.3 * girth),
            (0.5, middle + 0.56 * girth), (0.08, middle + 0.5 * girth)], tone, coat)  # fmt: skip
    p.line([(0.74, middle - 0.1 * girth), (head_x, head_y)], min(0.3, 1.1 * head), tone, coat)
    if pattern:
        p.canvas.clip = p.canvas.coverage.astype(np.float32) / 255
        _coat_pattern(p, pattern, middle, girth, (head_x, head_y))
        p.canvas.clip = None
    face = dark if part == "wool" else tone
    p.oval(head_x, head_y, 1.05 * head * across, head, face, FUR)
    if part != "flat":
        p.oval(
            head_x + 0.9 * head * across,
            head_y + 0.35 * head,
            0.7 * head * across,
            0.55 * head,
            scaled(face, 0.9),
            ROUND,
        )
    if part == "trunk":
        p.line([(head_x + 0.05, head_y), (1.0, head_y + 0.22), (1.0, 0.72), (1.05, 0.82)], 0.12, tone, FUR)
        p.blob([(0.62, head_y - 0.16), (0.78, head_y - 0.2), (0.80, head_y + 0.2), (0.68, head_y + 0.3)], dark, FUR)
        p.line([(0.90, head_y + 0.16), (1.06, head_y + 0.3)], 0.04, WHITE, GLOSSY)
    elif part == "horns":
        p.lines(
            [
                [(head_x - 0.04, head_y - 0.8 * head), (head_x - 0.05, head_y - 1.7 * head)],
                [(head_x + 0.02, head_y - 0.8 * head), (head_x + 0.04, head_y - 1.7 * head)],
            ],
            0.04,
            WHITE,
            ROUND,
        )
    elif part == "mane":
        p.line([(0.70, middle - 0.5 * girth), (head_x - 0.06, head_y - 0.8 * head)], 0.09, BLACK, FUR)
    if part == "trunk":
        p.oval(head_x + 0.02, head_y - 0.03, 0.02, 0.025, BLACK, GLOSSY)
        return
    ears = [
        [
            (head_x + dx * across, head_y - 0.6 * head),
            (head_x + (dx - 0.03) * across, head_y - 1.6 * head),
            (head_x + (dx + 0.06) * across, head_y - 0.7 * head),
        ]
        for dx in (-0.7 * head, 0.15 * head)
    ]
    p.polys(ears, dark, FUR)
    p.oval(head_x + 0.25 * head * across, head_y - 0.2 * head, 0.16 * head * across, 0.16 * head, BLACK, GLOSSY)


def _coat_pattern(p: Pen, pattern: str, middle: float, girth: float, head: Point) -> None:
    rng = p.rng
    if pattern == "stripes":
        body = [
            [(x, middle - girth), (x + 0.03, middle), (x - 0.02, 1.0)] for x in np.arange(0.08, 0.9, 0.075).tolist()
        ]
        throat = [
            [
                (0.72 + t * (head[0] - 0.72) - 0.09, middle - t * 0.5 - 0.1),
                (0.72 + t * (head[0] - 0.72) + 0.12, middle - t * 0.5),
            ]
            for t in (0.3, 0.6, 0.9)
        ]
        p.lines(body + throat, 0.045, BLACK, MATTE)
    else:
        count, radius, roughness = (30, 0.045, 0.3) if pattern == "spots" else (6, 0.11, 0.7)
        low, high = (head[1], 0.8) if pattern == "spots" else (middle - girth / 2, middle + girth / 2)
        places = np.stack([rng.uniform(0.08, 0.92, count), rng.uniform(low, high, count)], 1).tolist()
        tone = (0.48, 0.27, 0.11) if pattern == "spots" else (0.16, 0.12, 0.10)
        p.polys([wobbly(rng, x, y, radius, roughness, 9) for x, y in places], tone, MATTE)


def bird(p: Pen, tone: Colour) -> None:
    """A small bird."""
    p.poly([(0.0, 0.75), (0.3, 0.5), (0.36, 0.68)], scaled(tone, 0.7), FUR)
    p.lines([[(0.48, 0.75), (0.46, 1.0)], [(0.56, 0.75), (0.57, 1.0)]], 0.03, (0.8, 0.5, 0.15))
    p.blob([(0.2, 0.55), (0.5, 0.28), (0.82, 0.35), (0.8, 0.72), (0.5, 0.88), (0.3, 0.78)], tone, FUR)
    p.oval(0.77, 0.28, 0.16, 0.18, tone, FUR)
    p.poly([(0.9, 0.22), (1.0, 0.31), (0.9, 0.36)], (0.9, 0.62, 0.15))
    p.blob([(0.12, 0.6), (0.45, 0.4), (0.68, 0.48), (0.5, 0.7)], scaled(tone, 0.65), FUR)
    p.oval(0.81, 0.24, 0.03, 0.035, BLACK, GLOSSY)


def bag(p: Pen, tone: Colour, *, kind: str) -> None:
    """A "backpack", "handbag" or "suitcase"."""
    if kind == "suitcase":
        p.lines([[(0.36, 0.2), (0.36, 0.0), (0.64, 0.0), (0.64, 0.2)]], 0.06, BLACK, METAL)
        p.pad(0.0, 0.15, 1.0, 0.98, 0.12, tone, GLOSSY)
        p.lines([[(x, 0.24), (x, 0.9)] for x in (0.25, 0.5, 0.75)], 0.03, scaled(tone, 0.65), FLAT)
        return
    p.line([(0.25, 0.4), (0.3, 0.05), (0.7, 0.05), (0.75, 0.4)], 0.06, scaled(tone, 0.6), CLOTH)
    top = 0.05 if kind == "backpack" else 0.32
    p.blob([(0.14, top), (0.86, top), (1.04, 0.98), (-0.04, 0.98)], tone, CLOTH)
    p.blob([(0.16, 0.56), (0.84, 0.56), (0.88, 0.94), (0.12, 0.94)], scaled(tone, 0.75), CLOTH)
    p.rect(0.43, 0.5, 0.57, 0.6, (0.85, 0.72, 0.35), METAL)


def umbrella(p: Pen, tone: Colour) -> None:
    """An open umbrella."""
    p.line([(0.5, 0.1), (0.5, 0.92), (0.56, 0.98), (0.62, 0.92)], 0.04, BROWN, WOOD)
    dome = [(0.5 - 0.5 * float(np.cos(a)), 0.52 - 0.48 * float(np.sin(a))) for a in np.linspace(0, np.pi, 15)]
    p.poly(
        [*dome, (0.83, 0.46), (0.67, 0.52), (0.5, 0.46), (0.33, 0.52), (0.17, 0.46)],
        tone,
        Finish(relief=0.6, bevel=0.3),
    )
    p.poly([(0.5, 0.04), (0.67, 0.52), (0.5, 0.46), (0.33, 0.52)], scaled(tone, 1.35), CLOTH)


def tie(p: Pen, tone: Colour) -> None:
    """A striped tie."""
    p.poly([(0.3, 0.12), (0.7, 0.12), (1.0, 0.8), (0.5, 1.0), (0.0, 0.8)], tone, CLOTH)
    p.polys(
        [[(0.1, y), (0.8, y - 0.12), (0.8, y - 0.06), (0.1, y + 0.06)] for y in (0.4, 0.6, 0.8)],
        scaled(tone, 1.5),
        CLOTH,
    )
    p.poly([(0.2, 0.0), (0.8, 0.0), (0.66, 0.14), (0.34, 0.14)], scaled(tone, 0.8), CLOTH)


def board(p: Pen, tone: Colour, *, wheels: bool = False, pair: bool = False) -> None:
    """Something long and flat, lying along the box: board or, as a pair, skis."""
    if pair:
        p.polys(
            [[(0.0, y), (0.93, y), (1.0, y - 0.12), (0.95, y + 0.2), (0.0, y + 0.2)] for y in (0.15, 0.6)], tone, GLOSSY
        )
        p.polys([box(0.4, y - 0.06, 0.56, y + 0.26) for y in (0.15, 0.6)], BLACK, MATTE)
        return
    p.blob([(-0.02, 0.35), (0.1, 0.1), (0.9, 0.1), (1.02, 0.35), (0.9, 0.65), (0.1, 0.65)], tone, GLOSSY)
    p.poly([(0.08, 0.32), (0.92, 0.32), (0.92, 0.44), (0.08, 0.44)], scaled(WHITE, 0.95), GLOSSY)
    if wheels:
        for x in (0.2, 0.8):
            p.oval(x, 0.8, 0.06, 0.2, WHITE)


def ball(p: Pen, tone: Colour) -> None:
    """A ball with seams."""
    p.oval(0.5, 0.5, 0.5, 0.5, tone, ROUND)
    p.lines([[(0.04, 0.45), (0.4, 0.6), (0.94, 0.4)], [(0.45, 0.02), (0.4, 0.5), (0.6, 0.97)]], 0.035, BLACK, FLAT)


def disc(p: Pen, tone: Colour) -> None:
    """A frisbee lying flat."""
    p.oval(0.5, 0.5, 0.5, 0.5, tone, GLOSSY)
    p.oval(0.5, 0.45, 0.36, 0.34, scaled(tone, 1.2), Finish(relief=-0.5, bevel=0.2))


def kite(p: Pen, tone: Colour) -> None:
    """A diamond kite with its tail."""
    p.line([(0.5, 0.68), (0.44, 0.78), (0.56, 0.88), (0.48, 1.0)], 0.03, WHITE)
    p.poly([(0.5, 0.0), (1.0, 0.3), (0.5, 0.7), (0.0, 0.3)], tone, CLOTH)
    p.polys(
        [[(0.5, 0.0), (1.0, 0.3), (0.5, 0.3)], [(0.0, 0.3), (0.5, 0.3), (0.5, 0.7)]],
        hsv(p.rng.uniform(), 0.8, 0.9),
        CLOTH,
    )


def racket(p: Pen, tone: Colour) -> None:
    """A tennis racket."""
    ring = oval(0.5, 0.3, 0.44, 0.28)
    p.poly(ring, (0.8, 0.82, 0.78), matter(FLAT, 0.45))
    strings = [[(x, 0.3 - r), (x, 0.3 + r)] for x, r in ((0.3, 0.24), (0.5, 0.28), (0.7, 0.24))]
    strings += [[(0.1, y), (0.9, y)] for y in (0.2, 0.3, 0.4)]
    p.lines(strings, 0.015, WHITE, FLAT)
    p.lines([[*ring, ring[0]], [(0.5, 0.58), (0.5, 0.98)]], 0.09, tone, GLOSSY)
    p.line([(0.5, 0.75), (0.5, 0.98)], 0.13, BLACK, CLOTH)


def bat(p: Pen, tone: Colour) -> None:
    """A baseball bat."""
    p.blob([(-0.02, 0.1), (0.5, 0.25), (0.98, 0.4), (0.98, 0.6), (0.5, 0.75), (-0.02, 0.9)], tone, WOOD)
    p.oval(0.985, 0.5, 0.015, 0.2, scaled(tone, 0.7))


def glove(p: Pen, tone: Colour) -> None:
    """A baseball glove."""
    p.lines(
        [[(0.5, 0.6), (x, y)] for x, y in ((0.25, 0.1), (0.45, 0.08), (0.65, 0.1), (0.85, 0.22), (0.1, 0.45))],
        0.24,
        tone,
        CLOTH,
    )
    p.blob([(0.15, 0.4), (0.9, 0.35), (0.85, 0.98), (0.25, 0.98)], tone, CLOTH)
    p.lines([[(0.3, 0.4), (0.4, 0.6)], [(0.5, 0.36), (0.52, 0.6)]], 0.03, scaled(tone, 0.5), FLAT)
