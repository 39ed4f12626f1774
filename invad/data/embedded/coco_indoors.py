"""How things indoors look: one routine per kind of object, for the generated COCO scenes.

Every routine draws in the unit box of its `Pen` (0 is left and top, 1 right and bottom; the object faces right) in the
given main colour. Strokes are fractions of the box's smaller side.
"""

import numpy as np

from invad.data.embedded.drawing import (
    BLACK,
    BROWN,
    CLOTH,
    CRUMB,
    FLAT,
    FUR,
    GLASS,
    GLOSSY,
    LEAF,
    MATTE,
    METAL,
    ROUND,
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


def vessel(p: Pen, tone: Colour, *, kind: str) -> None:
    """A "bottle", "wine" glass, "cup", "bowl" or "vase"."""
    if kind == "bottle":
        p.rect(0.36, 0.02, 0.64, 0.4, tone, GLOSSY)
        p.pad(0.0, 0.3, 1.0, 1.0, 0.3, tone, GLOSSY)
        p.rect(0.06, 0.5, 0.94, 0.8, WHITE, MATTE)
        p.rect(0.34, 0.0, 0.66, 0.08, (0.75, 0.15, 0.12), GLOSSY)
    elif kind == "wine":
        p.rect(0.45, 0.5, 0.55, 0.95, (0.8, 0.85, 0.88), GLASS)
        p.oval(0.5, 0.95, 0.36, 0.05, (0.8, 0.85, 0.88), GLASS)
        p.blob([(0.08, 0.0), (0.92, 0.0), (1.0, 0.4), (0.5, 0.66), (0.0, 0.4)], (0.85, 0.9, 0.92), GLASS)
        p.blob([(0.06, 0.25), (0.94, 0.25), (0.9, 0.44), (0.5, 0.62), (0.1, 0.44)], tone, GLOSSY)
    elif kind == "cup":
        p.line([(0.74, 0.25), (0.98, 0.3), (0.95, 0.6), (0.7, 0.7)], 0.11, scaled(tone, 0.85), GLOSSY)
        p.pad(0.0, 0.1, 0.8, 1.0, 0.15, tone, GLOSSY)
        p.oval(0.4, 0.13, 0.36, 0.11, (0.22, 0.12, 0.07), MATTE)
    elif kind == "bowl":
        p.blob([(0.0, 0.25), (1.0, 0.25), (0.9, 0.8), (0.65, 1.0), (0.35, 1.0), (0.1, 0.8)], tone, GLOSSY)
        p.oval(0.5, 0.28, 0.48, 0.24, scaled(tone, 0.75), Finish(relief=-0.8, bevel=0.2))
        p.oval(0.5, 0.32, 0.38, 0.16, hsv(p.rng.uniform(0.05, 0.3), 0.6, 0.75), CRUMB)
    else:
        p.blob([(0.3, 0.3), (0.7, 0.3), (1.08, 0.6), (0.75, 1.0), (0.25, 1.0), (-0.08, 0.6)], tone, GLOSSY)
        _bouquet(p, 0.24)


def _bouquet(p: Pen, y: float) -> None:
    p.lines([[(0.5, 0.5), (x, y)] for x in (0.15, 0.4, 0.6, 0.85)], 0.05, LEAF)
    hue = p.rng.uniform(0.85, 1.15)
    p.polys(
        [wobbly(p.rng, x, y - d, 0.16, 0.4, 10) for x, d in ((0.15, 0.0), (0.4, 0.1), (0.62, 0.05), (0.86, 0.02))],
        hsv(hue, 0.6, 0.9),
        CRUMB,
    )


def cutlery(p: Pen, tone: Colour, *, kind: str) -> None:
    """A "fork", "spoon", "knife" or "toothbrush", its handle to the right."""
    p.line([(0.4, 0.5), (0.97, 0.5)], 0.34, (0.2, 0.15, 0.12) if kind == "knife" else tone, METAL)
    if kind == "fork":
        p.polys([box(0.0, y, 0.24, y + 0.14) for y in (0.1, 0.33, 0.56, 0.79)], tone, METAL)
        p.blob([(0.2, 0.06), (0.32, 0.06), (0.46, 0.5), (0.32, 0.96), (0.2, 0.96)], tone, METAL)
    elif kind == "spoon":
        p.oval(0.18, 0.5, 0.18, 0.46, tone, GLOSSY)
        p.oval(0.18, 0.5, 0.12, 0.3, scaled(tone, 0.8), Finish(relief=-0.8, bevel=0.25))
    elif kind == "toothbrush":
        p.rect(0.0, 0.0, 0.2, 0.5, WHITE, FUR)
        p.line([(0.02, 0.6), (0.5, 0.6)], 0.2, tone, GLOSSY)
    else:
        p.poly([(0.0, 0.35), (0.1, 0.15), (0.56, 0.2), (0.56, 0.85), (0.12, 0.8)], tone, METAL)


def fruit(p: Pen, tone: Colour) -> None:
    """An apple or an orange, by its colour."""
    p.blob(
        wobbly(p.rng, 0.5, 0.53, 0.52, 0.06),
        tone,
        Finish(relief=0.8, bevel=0.3, gloss=0.35, noise="grain", noise_strength=0.05),
    )
    p.line([(0.5, 0.16), (0.55, 0.02)], 0.07, BROWN)
    p.blob([(0.55, 0.08), (0.7, 0.0), (0.8, 0.1), (0.66, 0.16)], LEAF)


def long_food(p: Pen, tone: Colour, *, kind: str) -> None:
    """A "banana", "carrot" or "hot dog"."""
    if kind == "banana":
        p.blob(
            [
                (0.0, 0.1),
                (0.1, 0.08),
                (0.3, 0.5),
                (0.7, 0.55),
                (0.95, 0.2),
                (1.0, 0.3),
                (0.85, 0.85),
                (0.5, 1.05),
                (0.15, 0.8),
            ],
            tone,
            ROUND,
        )
        p.oval(0.04, 0.12, 0.04, 0.08, BROWN, MATTE)
    elif kind == "carrot":
        p.lines([[(0.2, 0.5), (0.0, y)] for y in (0.1, 0.5, 0.9)], 0.14, LEAF, FUR)
        p.blob([(0.14, 0.15), (0.4, 0.15), (1.05, 0.5), (0.4, 0.85), (0.14, 0.85)], tone, ROUND)
        p.lines([[(x, 0.25), (x + 0.02, 0.55)] for x in (0.3, 0.45, 0.6)], 0.03, scaled(tone, 0.75), FLAT)
    else:
        p.blob([(0.03, 0.2), (0.97, 0.2), (1.0, 0.95), (0.0, 0.95)], (0.85, 0.62, 0.32), CRUMB)
        p.line([(0.08, 0.48), (0.5, 0.42), (0.92, 0.48)], 0.36, tone, ROUND)
        p.line([(0.15, 0.42), (0.3, 0.52), (0.45, 0.4), (0.6, 0.5), (0.82, 0.42)], 0.07, (0.95, 0.78, 0.12), GLOSSY)


def sandwich(p: Pen, tone: Colour) -> None:
    """A sandwich with filling."""
    p.blob([(0.0, 0.62), (1.0, 0.62), (0.97, 1.0), (0.03, 1.0)], tone, CRUMB)
    p.poly(
        [(0.0, 0.5), (0.25, 0.44), (0.75, 0.44), (1.0, 0.5), (0.9, 0.62), (0.6, 0.58), (0.3, 0.64), (0.05, 0.6)],
        (0.38, 0.62, 0.18),
        CRUMB,
    )
    p.rect(0.04, 0.56, 0.96, 0.68, (0.80, 0.30, 0.24), ROUND)
    p.blob([(0.0, 0.45), (0.08, 0.02), (0.92, 0.02), (1.0, 0.45)], tone, CRUMB)


def broccoli(p: Pen, tone: Colour) -> None:
    """A floret with its stalk."""
    p.poly([(0.38, 0.5), (0.62, 0.5), (0.6, 1.0), (0.4, 1.0)], scaled(tone, 1.7), ROUND)
    p.polys(
        [
            wobbly(p.rng, x, y, 0.24, 0.2, 12)
            for x, y in ((0.25, 0.42), (0.75, 0.42), (0.4, 0.24), (0.64, 0.26), (0.5, 0.5))
        ],
        tone,
        CRUMB,
    )


def pizza(p: Pen, tone: Colour) -> None:
    """A whole pizza."""
    p.oval(0.5, 0.5, 0.5, 0.5, (0.80, 0.56, 0.28), CRUMB)
    p.oval(0.5, 0.5, 0.43, 0.43, tone, CRUMB)
    places = p.rng.uniform(0.2, 0.8, (8, 2)).tolist()
    p.polys([oval(x, y, 0.075, 0.075, 12) for x, y in places[:5]], (0.70, 0.16, 0.10), ROUND)
    p.polys([wobbly(p.rng, x, y, 0.04, 0.5, 8) for x, y in places[5:]], LEAF)


def donut(p: Pen, tone: Colour) -> None:
    """A glazed donut with sprinkles."""
    p.oval(0.5, 0.52, 0.5, 0.48, (0.76, 0.52, 0.28), ROUND)
    p.blob(wobbly(p.rng, 0.5, 0.5, 0.46, 0.1), tone, GLOSSY)
    p.oval(0.5, 0.5, 0.15, 0.14, (0.35, 0.22, 0.12), Finish(relief=-0.8, bevel=0.3))
    p.polys([box(x, y, x + 0.05, y + 0.03) for x, y in p.rng.uniform(0.12, 0.85, (12, 2)).tolist()], WHITE, FLAT)


def cake(p: Pen, tone: Colour) -> None:
    """A cake with cherries."""
    p.oval(0.5, 0.95, 0.5, 0.06, WHITE, GLOSSY)
    p.rect(0.08, 0.32, 0.92, 0.94, scaled(tone, 0.7), CRUMB)
    p.rect(0.08, 0.58, 0.92, 0.66, WHITE, MATTE)
    p.blob([(0.04, 0.24), (0.96, 0.24), (0.96, 0.5), (0.7, 0.4), (0.5, 0.52), (0.3, 0.4), (0.04, 0.5)], tone, GLOSSY)
    p.polys([oval(x, 0.2, 0.06, 0.08, 12) for x in (0.2, 0.4, 0.6, 0.8)], (0.8, 0.1, 0.15), ROUND)


def chair(p: Pen, tone: Colour) -> None:
    """A wooden chair."""
    p.lines(
        [
            [(0.12, 0.02), (0.16, 0.98)],
            [(0.82, 0.55), (0.9, 0.98)],
            [(0.3, 0.6), (0.34, 0.88)],
            [(0.7, 0.55), (0.7, 0.85)],
        ],
        0.09,
        scaled(tone, 0.8),
        WOOD,
    )
    p.poly([(0.1, 0.0), (0.62, 0.04), (0.62, 0.42), (0.13, 0.44)], tone, WOOD)
    p.poly([(0.1, 0.52), (0.66, 0.47), (0.97, 0.56), (0.32, 0.64)], scaled(tone, 1.2), WOOD)


def couch(p: Pen, tone: Colour) -> None:
    """A sofa with cushions."""
    p.lines([[(0.1, 0.9), (0.1, 0.98)], [(0.9, 0.9), (0.9, 0.98)]], 0.07, BROWN, WOOD)
    p.blob([(0.06, 0.0), (0.94, 0.0), (0.96, 0.7), (0.04, 0.7)], tone, CLOTH)
    p.rect(0.1, 0.62, 0.9, 0.92, scaled(tone, 0.85), CLOTH)
    for x in (0.12, 0.5):
        p.blob([(x, 0.44), (x + 0.38, 0.44), (x + 0.38, 0.7), (x, 0.7)], scaled(tone, 1.15), CLOTH)
    for x in (0.0, 0.86):
        p.blob([(x, 0.3), (x + 0.14, 0.3), (x + 0.14, 0.96), (x, 0.96)], tone, CLOTH)


def plant(p: Pen, tone: Colour) -> None:
    """A plant in a pot."""
    leaves = []
    for angle in np.linspace(-2.9, -0.25, 11) + p.rng.normal(0, 0.08, 11):
        reach = p.rng.uniform(0.38, 0.6)
        tip = (0.5 + 0.85 * reach * float(np.cos(angle)), 0.62 + reach * float(np.sin(angle)))
        leaves.append(
            [
                (0.47, 0.66),
                ((tip[0] + 0.5) / 2 - 0.07, (tip[1] + 0.6) / 2),
                tip,
                ((tip[0] + 0.5) / 2 + 0.07, (tip[1] + 0.64) / 2),
                (0.53, 0.66),
            ]
        )
    p.polys(leaves[::2], scaled(tone, 0.7), FUR)
    p.polys(leaves[1::2], tone, FUR)
    p.poly([(0.22, 0.66), (0.78, 0.66), (0.68, 1.0), (0.32, 1.0)], (0.68, 0.36, 0.22), ROUND)


def bed(p: Pen, tone: Colour) -> None:
    """A bed from the side."""
    p.rect(0.0, 0.0, 0.1, 1.0, BROWN, WOOD)
    p.rect(0.92, 0.45, 1.0, 1.0, BROWN, WOOD)
    p.rect(0.06, 0.62, 0.95, 0.88, scaled(BROWN, 1.3), WOOD)
    p.blob([(0.07, 0.4), (0.95, 0.42), (0.96, 0.72), (0.07, 0.72)], WHITE, CLOTH)
    p.blob([(0.32, 0.36), (0.95, 0.38), (0.97, 0.84), (0.3, 0.84)], tone, CLOTH)
    p.blob([(0.1, 0.24), (0.34, 0.26), (0.36, 0.46), (0.1, 0.46)], WHITE, ROUND)


def table(p: Pen, tone: Colour) -> None:
    """A wooden table."""
    p.lines(
        [
            [(0.1, 0.3), (0.08, 0.98)],
            [(0.9, 0.3), (0.92, 0.98)],
            [(0.28, 0.3), (0.27, 0.8)],
            [(0.72, 0.3), (0.73, 0.8)],
        ],
        0.08,
        scaled(tone, 0.75),
        WOOD,
    )
    p.poly([(0.16, 0.0), (0.84, 0.0), (1.0, 0.3), (0.0, 0.3)], scaled(tone, 1.2), WOOD)
    p.rect(0.0, 0.29, 1.0, 0.40, scaled(tone, 0.85), WOOD)


def toilet(p: Pen, tone: Colour) -> None:
    """A toilet from the side."""
    p.rect(0.0, 0.0, 0.42, 0.5, tone, GLOSSY)
    p.blob([(0.2, 0.6), (0.8, 0.6), (0.66, 1.02), (0.24, 1.02)], scaled(tone, 0.92), GLOSSY)
    p.blob([(0.08, 0.46), (0.98, 0.46), (0.98, 0.62), (0.74, 0.78), (0.16, 0.74)], tone, GLOSSY)
    p.oval(0.58, 0.49, 0.4, 0.06, scaled(tone, 0.75), Finish(relief=-0.6))


def display(p: Pen, tone: Colour, *, kind: str) -> None:
    """A "tv", "laptop" or "phone"."""
    screen = hsv(p.rng.uniform(0.5, 0.65), 0.6, p.rng.uniform(0.35, 0.75))
    bottom = 0.86 if kind == "tv" else 0.64 if kind == "laptop" else 1.0
    if kind == "tv":
        p.poly([(0.44, 0.84), (0.56, 0.84), (0.7, 1.0), (0.3, 1.0)], BLACK, GLOSSY)
    p.rect(0.0, 0.0, 1.0, bottom, tone, GLOSSY)
    margin = 0.1 if kind == "phone" else 0.04
    p.rect(margin, 0.06, 1 - margin, bottom - 0.06, screen, Finish(relief=0.3, noise="cloud", noise_strength=0.2))
    p.poly([(margin, 0.06), (0.6, 0.06), (0.3, bottom - 0.06), (margin, bottom - 0.06)], WHITE, matter(FLAT, 0.14))
    if kind == "laptop":
        p.poly([(0.0, 0.64), (1.0, 0.64), (1.08, 1.0), (-0.08, 1.0)], STEEL, METAL)
        p.polys(_keys(0.04, 0.68, 0.96, 0.88, 9, 3), BLACK, MATTE)


def _keys(x0: float, y0: float, x1: float, y1: float, columns: int, rows: int) -> list[list[Point]]:
    dx, dy = (x1 - x0) / columns, (y1 - y0) / rows
    return [
        box(x0 + i * dx, y0 + j * dy, x0 + (i + 0.8) * dx, y0 + (j + 0.76) * dy)
        for i in range(columns)
        for j in range(rows)
    ]


def keypad(p: Pen, tone: Colour, *, columns: int, rows: int) -> None:
    """A remote or a keyboard."""
    p.pad(0.0, 0.0, 1.0, 1.0, 0.15, tone, Finish(relief=0.5, bevel=0.1, gloss=0.2))
    p.polys(_keys(0.05, 0.12, 0.96, 0.92, columns, rows), scaled(WHITE, 0.8), MATTE)


def mouse(p: Pen, tone: Colour) -> None:
    """A computer mouse."""
    p.blob([(0.0, 0.2), (0.6, 0.0), (1.05, 0.3), (1.05, 0.75), (0.6, 1.0), (0.0, 0.85)], tone, GLOSSY)
    p.lines([[(0.66, 0.06), (0.66, 0.94)], [(0.68, 0.5), (0.98, 0.5)]], 0.04, scaled(tone, 0.4), FLAT)


def box_appliance(p: Pen, tone: Colour, *, kind: str) -> None:
    """A "refrigerator", "toaster", "microwave" or "oven"."""
    p.rect(0.0, 0.02, 1.0, 1.0, tone, METAL)
    if kind == "refrigerator":
        p.line([(0.0, 0.36), (1.0, 0.36)], 0.03, scaled(tone, 0.4), FLAT)
        p.lines([[(0.12, 0.1), (0.12, 0.3)], [(0.12, 0.44), (0.12, 0.75)]], 0.06, scaled(tone, 0.55), METAL)
    elif kind == "toaster":
        p.polys([box(0.1, 0.0, 0.45, 0.08), box(0.55, 0.0, 0.9, 0.08)], (0.78, 0.55, 0.3), CRUMB)
        p.rect(0.88, 0.3, 0.96, 0.6, BLACK)
        p.line([(0.1, 0.85), (0.8, 0.85)], 0.05, scaled(tone, 0.5))
    else:
        x1, y0 = (0.74, 0.14) if kind == "microwave" else (0.92, 0.34)
        p.rect(0.06, y0, x1, 0.86, BLACK, GLOSSY)
        p.polys(
            _keys(0.80, 0.3, 0.96, 0.85, 2, 4)
            if kind == "microwave"
            else [oval(x, 0.15, 0.045, 0.05, 12) for x in (0.15, 0.38, 0.62, 0.85)],
            scaled(tone, 0.4),
        )
        p.line([(0.1, y0 + 0.06), (x1 - 0.04, y0 + 0.06)], 0.035, STEEL, METAL)


def sink(p: Pen, tone: Colour) -> None:
    """A wash basin with its tap."""
    p.line([(0.5, 0.42), (0.5, 0.08), (0.66, 0.05), (0.68, 0.2)], 0.09, STEEL, METAL)
    p.blob([(-0.03, 0.38), (1.03, 0.38), (0.86, 1.04), (0.14, 1.04)], tone, GLOSSY)
    p.oval(0.5, 0.54, 0.4, 0.13, scaled(tone, 0.7), Finish(relief=-0.9, bevel=0.25))


def book(p: Pen, tone: Colour) -> None:
    """A closed book."""
    p.poly([(0.06, 0.1), (0.98, 0.1), (0.98, 1.0), (0.06, 1.0)], (0.9, 0.88, 0.8), FUR)
    p.rect(0.0, 0.0, 0.93, 0.94, tone, CLOTH)
    p.rect(0.0, 0.0, 0.12, 0.94, scaled(tone, 0.7), CLOTH)
    p.lines([[(0.26, 0.25), (0.8, 0.25)], [(0.36, 0.4), (0.7, 0.4)]], 0.08, (0.9, 0.8, 0.5), FLAT)


def clock(p: Pen, tone: Colour) -> None:
    """A wall clock."""
    p.oval(0.5, 0.5, 0.5, 0.5, tone, GLOSSY)
    p.oval(0.5, 0.5, 0.41, 0.41, WHITE, Finish(relief=-0.3, bevel=0.1))
    p.polys([oval(x, y, 0.03, 0.03, 8) for x, y in oval(0.5, 0.5, 0.34, 0.34, 12)], BLACK, FLAT)
    turn = p.rng.uniform(0, 6.28)
    p.lines(
        [
            [(0.5, 0.5), (0.5 + r * float(np.cos(a)), 0.5 + r * float(np.sin(a)))]
            for r, a in ((0.3, turn), (0.2, turn * 5))
        ],
        0.04,
        BLACK,
        FLAT,
    )


def scissors(p: Pen, tone: Colour) -> None:
    """Open scissors."""
    p.polys([[(0.0, 0.22), (0.6, 0.5), (0.55, 0.62)], [(0.0, 0.78), (0.6, 0.5), (0.55, 0.38)]], STEEL, METAL)
    rings = [oval(0.82, 0.24, 0.16, 0.2), oval(0.82, 0.76, 0.16, 0.2)]
    p.lines(
        [[*ring, ring[0]] for ring in rings] + [[(0.55, 0.5), (0.68, 0.4)], [(0.55, 0.5), (0.68, 0.6)]],
        0.13,
        tone,
        GLOSSY,
    )


def teddy(p: Pen, tone: Colour) -> None:
    """A sitting teddy bear."""
    p.polys([oval(0.25, 0.1, 0.12, 0.1), oval(0.75, 0.1, 0.12, 0.1)], scaled(tone, 0.8), FUR)
    p.lines(
        [
            [(0.3, 0.5), (0.08, 0.66)],
            [(0.7, 0.5), (0.92, 0.66)],
            [(0.35, 0.8), (0.16, 0.92)],
            [(0.65, 0.8), (0.84, 0.92)],
        ],
        0.22,
        tone,
        FUR,
    )
    p.oval(0.5, 0.68, 0.3, 0.28, tone, FUR)
    p.oval(0.5, 0.27, 0.3, 0.23, tone, FUR)
    p.oval(0.5, 0.35, 0.14, 0.1, scaled(tone, 1.35), FUR)
    p.polys(
        [oval(0.38, 0.23, 0.035, 0.03, 10), oval(0.62, 0.23, 0.035, 0.03, 10), oval(0.5, 0.31, 0.05, 0.03, 10)],
        BLACK,
        GLOSSY,
    )


def drier(p: Pen, tone: Colour) -> None:
    """A hair drier."""
    p.poly([(0.2, 0.4), (0.45, 0.4), (0.4, 1.0), (0.22, 1.0)], scaled(tone, 0.8), GLOSSY)
    p.blob([(0.0, 0.1), (0.5, 0.0), (1.0, 0.12), (1.0, 0.42), (0.5, 0.52), (0.0, 0.45)], tone, GLOSSY)
    p.rect(0.9, 0.12, 1.0, 0.42, BLACK)
