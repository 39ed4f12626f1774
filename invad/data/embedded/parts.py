"""The parts that generated things, places and products are composed of: a colour, a surface and a shape in a line of text.

A part is `colour surface shape numbers`, in the unit box of a pen: 0 left and top, 1 right and bottom. `/` stands between several of one
shape. A colour is a name, t (the main one) or red,green,blue, perhaps with a factor (t*.6), or h and hue,saturation,value. Of a number, a:b
is drawn evenly and a~b is one of them. `2` before a shape: the same also mirrored; `?` before a part: in every second picture. The first
number of what is a line is its width; radii of disc, rim and spokes are in heights of the box. What has to be arranged at random is a
`special`: a function with its name in the place of the colour.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from invad.data.embedded.drawing import Colour, Finish, Pen, Point, Rng, box, hsv, oval, plane, rounded, scaled, wobbly

COLOURS: dict[str, Colour] = {
    **{"black": (0.09, 0.09, 0.10), "white": (0.93, 0.93, 0.91), "pane": (0.24, 0.33, 0.40)},
    **{"steel": (0.66, 0.67, 0.69), "brown": (0.47, 0.30, 0.17), "leaf": (0.20, 0.43, 0.16)},
}
FINISHES = {
    "flat": Finish(relief=0.0),
    "sheen": Finish(relief=0.0, opacity=0.14),
    "sheer": Finish(relief=0.0, opacity=0.45),
    "matte": Finish(noise="grain", noise_strength=0.03),
    "round": Finish(relief=0.7, bevel=0.3, gloss=0.25, noise="cloud", noise_strength=0.04),
    "gloss": Finish(relief=0.5, bevel=0.2, gloss=0.55),
    "metal": Finish(relief=0.5, bevel=0.12, gloss=0.6, noise="fibre", noise_strength=0.07),
    "cloth": Finish(relief=0.5, bevel=0.2, noise="cloud", noise_strength=0.09),
    "fur": Finish(relief=0.6, bevel=0.25, noise="fur", noise_strength=0.12),
    "wool": Finish(relief=0.8, bevel=0.3, noise="grain", noise_strength=0.10),
    "wood": Finish(relief=0.3, bevel=0.06, noise="fibre", noise_strength=0.12),
    "glass": Finish(relief=0.6, bevel=0.2, gloss=0.9, opacity=0.55),
    "crumb": Finish(relief=0.6, bevel=0.2, gloss=0.12, noise="grain", noise_strength=0.13),
    "dent": Finish(relief=-0.8, bevel=0.2),
    "peel": Finish(relief=0.8, bevel=0.3, gloss=0.35, noise="grain", noise_strength=0.05),
    "shell": Finish(relief=1.0, bevel=0.24, gloss=0.12, noise="cloud", noise_strength=0.05),
    "steel": Finish(relief=0.9, bevel=0.07, gloss=0.45, noise="fibre", noise_strength=0.04),
    "face": Finish(relief=0.5, bevel=0.04, noise="fibre", noise_strength=0.03),
    "can": Finish(relief=1.2, bevel=0.06, gloss=0.5),
    "wax": Finish(relief=0.5, bevel=0.1, noise="cloud", noise_strength=0.035),
    "crease": Finish(relief=-0.6, opacity=0.5, blur=0.3),
    "soot": Finish(relief=0.0, blur=0.07, noise="cloud", noise_strength=0.15),
    "board": Finish(relief=0.5, bevel=0.015, noise="grain", noise_strength=0.03),
    "chip": Finish(relief=0.8, bevel=0.08, noise="grain", noise_strength=0.1),
    "screen": Finish(relief=0.3, noise="cloud", noise_strength=0.2),
}
_STROKED = ("line", "rim", "ring", "spokes", "grid", "mesh")

Colours = Mapping[str, Colour]  # by name, t among them
Special = Callable[[Pen, Colours, list[str]], None]


def parse(table: str) -> Iterator[list[str]]:
    """Yield the cells of each line of a table; an indented line goes on with the parts of the one before."""
    for line in table.strip().replace("\n  ", "; ").splitlines():
        yield [cell.strip() for cell in line.split("|")]


def numbers(text: str, rng: Rng) -> list[float]:
    """Return the numbers of a text, those that are drawn with `rng`."""
    return [_number(word, rng) for word in text.replace(",", " ").split()]


def draw_parts(pen: Pen, colours: Colours, parts: str, specials: Mapping[str, Special] | None = None) -> None:
    """Paint the parts, which `;` separates, one over the other; those that begin with a name among `specials` are painted by it."""
    for part in filter(None, (part.strip() for part in parts.split(";"))):
        if part.startswith("?") and pen.rng.integers(0, 2):
            continue
        first, *words = part.removeprefix("?").split()
        if specials and first in specials:
            specials[first](pen, colours, words)
            continue
        surface, shape, *rest = words
        groups = [numbers(group, pen.rng) for group in " ".join(rest).split("/")]
        colour = None if first == "bare" else colour_of(first, colours, pen.rng)
        if shape == "band" and colour:
            band(pen, colour, surface, *groups[0])
        else:
            _draw(pen, colour, surface, shape, groups)


def finish_of(text: str) -> Finish:
    """Return the surface of a name, perhaps with an opacity (round@.5)."""
    name, _, opacity = text.partition("@")
    return replace(FINISHES[name], opacity=float(opacity)) if opacity else FINISHES[name]


def colour_of(text: str, colours: Colours, rng: Rng) -> Colour:
    """Return the colour that a text says."""
    text, _, factor = text.partition("*")
    if "," in text:
        values = numbers(text.removeprefix("h"), rng)
        return hsv(*values) if text.startswith("h") else (values[0], values[1], values[2])
    return scaled(colours[text] if text in colours else COLOURS[text], float(factor or 1))


def band(
    pen: Pen, top: Colour, noise: str, y0: float, y1: float, factor: float, strength: float, zoom: float = 1.0
) -> None:
    """Fill the canvas's rows from y0 to y1 with a gradient, at the bottom `top` times `factor`, and noise."""
    canvas = pen.canvas
    first, last = round(y0 * canvas.height), round(y1 * canvas.height)
    ramp = np.linspace(1, factor, last - first, dtype=np.float32)[:, None]
    canvas.rgb[:, first:last] = plane(top) * ramp * (1 + np.float32(strength) * canvas.noise(noise, zoom)[first:last])


def _draw(pen: Pen, colour: Colour | None, surface: str, shape: str, groups: list[list[float]]) -> None:
    name = shape.removeprefix("2")
    width = groups.pop(0)[0] if name in _STROKED else 0.0
    outlines = [outline for group in groups for outline in _outlines(pen, name, group)]
    if shape != name:
        outlines += [[(1 - x, y) for x, y in outline] for outline in outlines]
    if surface.startswith("shadow@"):
        for outline in outlines:
            pen.shadow(outline, float(surface.removeprefix("shadow@")))
    else:
        pen.draw(outlines, colour, finish_of(surface), width)


def _outlines(pen: Pen, shape: str, values: list[float]) -> Iterator[list[Point]]:
    """Yield the outlines, or the lines, of a shape."""
    rng, across = pen.rng, float(pen.size[1] / pen.size[0])
    match shape, values:
        case "rect", _:
            yield box(*values)
        case "poly" | "line", _:
            yield list(zip(values[::2], values[1::2], strict=True))
        case "blob", _:
            yield rounded(list(zip(values[::2], values[1::2], strict=True)))
        case "oval", [x, y, radius_x, radius_y, *corners]:
            yield oval(x, y, radius_x, radius_y, *map(int, corners))
        case "ring", [x, y, radius_x, radius_y]:
            outline = oval(x, y, radius_x, radius_y)
            yield [*outline, outline[0]]
        case "disc", [x, y, radius]:
            yield oval(x, y, radius * across, radius)
        case "rim", [x, y, radius]:
            yield from _outlines(pen, "ring", [x, y, radius * across, radius])
        case "spokes", [x, y, radius]:
            yield from ([(x, y), end] for end in oval(x, y, radius * across, radius, 12))
        case "wob", [x, y, radius, roughness, *corners]:
            yield wobbly(rng, x, y, radius, roughness, *map(int, corners))
        case "pad", [x0, y0, x1, y1, radius]:  # with round corners, of a radius in smaller sides of the box
            dx, dy = (float(radius * min(pen.size) / side) for side in pen.size)
            corners = ((x1 - dx, y0 + dy), (x1 - dx, y1 - dy), (x0 + dx, y1 - dy), (x0 + dx, y0 + dy))
            turns = [(np.linspace(-0.5, 0, 5) + 0.5 * quarter) * np.pi for quarter in range(4)]
            quarters = zip(corners, turns, strict=True)
            yield [(x + dx * float(np.cos(a)), y + dy * float(np.sin(a))) for (x, y), turn in quarters for a in turn]
        case "keys", [x0, y0, x1, y1, columns, rows]:
            dx, dy = (x1 - x0) / columns, (y1 - y0) / rows
            corners = [(x0 + i * dx, y0 + j * dy) for i in range(int(columns)) for j in range(int(rows))]
            yield from (box(x, y, x + 0.8 * dx, y + 0.76 * dy) for x, y in corners)
        case "grid", [x0, y0, x1, y1, columns, rows]:
            yield from ([(x, y0), (x, y1)] for x in np.linspace(x0, x1, int(columns)).tolist())
            yield from ([(x0, y), (x1, y)] for y in np.linspace(y0, y1, int(rows)).tolist())
        case "mesh", [x, y, radius, count]:
            for offset in np.linspace(-0.85, 0.85, int(count)).tolist():
                shift, reach = radius * offset, radius * float(np.sqrt(1 - offset**2))
                yield [(x - reach * across, y + shift), (x + reach * across, y + shift)]
                yield [(x + shift * across, y - reach), (x + shift * across, y + reach)]
        case "strew", [low, high, count, radius]:
            places = rng.uniform(low, high, (int(count), 2)).tolist()
            yield from (oval(x, y, radius, radius * 1.2, 12) for x, y in places)
        case "ridge", [y, height, count]:
            edge = [(x, y + height * float(rng.normal())) for x in np.linspace(-0.05, 1.05, int(count)).tolist()]
            yield [*edge, (1.05, 1.1), (-0.05, 1.1)]
        case "fan", [count]:
            for angle in np.linspace(-2.9, -0.25, int(count)) + rng.normal(0, 0.12, int(count)):
                reach = rng.uniform(0.38, 0.6)
                x, y = 0.5 + 0.85 * reach * float(np.cos(angle)), 0.62 + reach * float(np.sin(angle))
                yield [(0.47, 0.66), (x / 2 + 0.18, y / 2 + 0.3), (x, y), (x / 2 + 0.32, y / 2 + 0.32), (0.53, 0.66)]
        case _:
            raise ValueError(f"{shape} {values}: no shape")


def _number(text: str, rng: Rng) -> float:
    if ":" in text:
        low, high = text.split(":")
        return float(rng.uniform(float(low), float(high)))
    choices = text.split("~")
    return float(choices[int(rng.integers(0, len(choices)))] if len(choices) > 1 else text)
