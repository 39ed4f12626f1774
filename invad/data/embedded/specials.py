"""What is arranged at random in the generated pictures: places, creatures, defects; each a special of `parts`."""

import numpy as np

from invad.data.embedded.drawing import Pen, Point, hsv, jittered, plane, rounded, scaled, wandering, wobbly
from invad.data.embedded.parts import FINISHES, Colours, Special, band, colour_of, draw_parts, finish_of, numbers


def _text(points: list[Point]) -> str:
    return " ".join(f"{x} {y}" for x, y in points)


def _sky(pen: Pen, _colours: Colours, words: list[str]) -> None:
    canvas, until = pen.canvas, float(words[0])
    band(pen, jittered(pen.rng, (0.45, 0.63, 0.86), 0.08), "cloud", 0, until, 1, 0)
    rows = round(until * canvas.height)
    haze = np.linspace(0, 0.9, rows, dtype=np.float32)[:, None]
    cloud = np.clip(canvas.noise("cloud", 1.5)[:rows] * 0.5 - 0.1 + pen.rng.uniform(-0.2, 0.3), 0, 0.75)
    for weight, white in ((haze, 0.86), (cloud, 0.96)):
        canvas.rgb[:, :rows] += weight * (np.float32(white) - canvas.rgb[:, :rows])


def _houses(pen: Pen, _colours: Colours, _words: list[str]) -> None:
    rng, left = pen.rng, -0.05
    while left < 1.0:
        right, top = left + rng.uniform(0.2, 0.36), rng.uniform(0.03, 0.26)
        wall = hsv(rng.uniform(0.02, 0.13), rng.uniform(0.1, 0.45), rng.uniform(0.4, 0.75))
        places = [(x, y) for x in np.linspace(left + 0.03, right - 0.06, 4).tolist() for y in (0.05, 0.15, 0.25)]
        windows = " / ".join(f"{x} {top + y} {x + 0.035} {top + y + 0.06}" for x, y in places)
        draw_parts(pen, {"t": wall}, f"t matte rect {left} {top} {right} .56; t*.45 gloss rect {windows}")
        left = right


def _trees(pen: Pen, colours: Colours, words: list[str]) -> None:
    ground = float(words[0])
    for x in pen.rng.uniform(-0.05, 1.05, pen.rng.integers(2, 6)).tolist():
        size = pen.rng.uniform(0.06, 0.12)
        draw_parts(pen, colours, f".28,.2,.14 matte rect {x - 0.01} {ground - 0.02} {x + 0.01} {ground + 0.05}")
        crown = rounded(wobbly(pen.rng, x, ground - 0.5 * size, size, 0.4))
        pen.draw([crown], jittered(pen.rng, (0.22, 0.36, 0.18)), FINISHES["fur"])


def _firs(pen: Pen, colours: Colours, _words: list[str]) -> None:
    for x, size in zip(pen.rng.uniform(0, 1, 6).tolist(), pen.rng.uniform(0.08, 0.15, 6).tolist(), strict=True):
        corners = [(x, 0.5 - 1.6 * size), (x + 0.4 * size, 0.52), (x - 0.4 * size, 0.52)]
        draw_parts(pen, colours, f".13,.24,.19 fur poly {_text(corners)}")


def _window(pen: Pen, colours: Colours, _words: list[str]) -> None:
    """Draw a picture, or a window with its bars."""
    x = pen.rng.uniform(0.05, 0.6)
    pane = f"h.4:.65,.35,.8 matte rect {x + 0.02} .08 {x + 0.26} .3"
    draw_parts(pen, colours, f".9,.89,.85 gloss rect {x} .06 {x + 0.28} .32; {pane}")
    if pen.rng.integers(0, 2):
        bars = f"{x + 0.14} .08 {x + 0.14} .3 / {x + 0.02} .19 {x + 0.26} .19"
        draw_parts(pen, colours, f".9,.89,.85 flat line .02 / {bars}")


def _person(pen: Pen, _colours: Colours, _words: list[str]) -> None:
    """Draw an upright figure with arms and legs; skin, hair and clothes come in all colours."""
    rng = pen.rng
    skin = scaled((0.86, 0.66, 0.53), rng.uniform(0.45, 1.05))
    shirt = hsv(rng.uniform(), rng.uniform(0.2, 0.75), rng.uniform(0.35, 0.9))
    trousers, hair = hsv(rng.uniform(0.52, 0.7), 0.5, rng.uniform(0.15, 0.5)), hsv(0.08, 0.6, rng.uniform(0.08, 0.5))
    swing, lift = rng.uniform(-0.14, 0.14), rng.uniform(-0.16, 0.1)
    legs = [
        f"trousers cloth line .21 / {hip} .5 {(hip + foot) / 2 + 0.03} .73 {foot} .96; black matte oval {foot + 0.06} .975 .13 .024;"
        for hip, foot in ((0.42, 0.38 - swing), (0.58, 0.62 + swing))
    ]
    draw_parts(
        pen,
        {"skin": skin, "shirt": shirt, "trousers": trousers, "hair": hair},
        f"""{legs[0]} {legs[1]} skin*.85 round line .15 / .5 .12 .5 .2
        ; shirt cloth blob .2 .17 .8 .17 .74 .4 .72 .57 .28 .57 .26 .4
        ; shirt*.9 cloth line .15 / .25 .22 .14 .38 .12 .52; skin round oval .12 .52 .07 .03
        ; shirt*.9 cloth line .15 / .75 .22 .86 .38 .9 {0.52 + lift}; skin round oval .9 {0.52 + lift} .07 .03
        ; skin round oval .5 .085 .17 .085; hair fur blob .3 .09 .33 -.01 .68 -.01 .7 .1 .62 .05 .4 .05""",
    )


def _animal(pen: Pen, colours: Colours, words: list[str]) -> None:
    """Draw an animal from its side: lengths leg, neck, head and girth in box heights, `pattern` of the coat, `part` of the species."""
    options = dict(word.split("=") for word in words)
    leg, neck, head, girth = (float(options[name]) for name in ("leg", "neck", "head", "girth"))
    pattern, part = options.get("pattern", ""), options.get("part", "")
    across = float(pen.size[1] / pen.size[0])
    middle, coat, face = 1 - leg - girth / 2, *(("wool", "dark") if part == "wool" else ("fur", "t"))
    colours = {**colours, "dark": scaled(colours["t"], 0.72)}
    x, y = 0.97 - 1.25 * head * across, max(middle - neck, head)  # of the head
    thick, step = {"trunk": 0.22, "flat": 0.13}.get(part, 0.085), pen.rng.uniform(-0.04, 0.04)
    body = ((0.08, -0.5), (0.5, -0.46), (0.84, -0.56), (0.86, 0.3), (0.5, 0.56), (0.08, 0.5))
    draw_parts(
        pen,
        colours,
        f"""dark fur line {thick} / .27 {middle} {0.27 + step} .985 / .65 {middle} {0.65 - step} .985
        ; dark fur line .05 / .12 {middle - 0.2 * girth} .03 {middle + 0.1} .04 {middle + 0.6 * girth}
        ; t fur line {thick} / .19 {middle} {0.19 - step} .985 / .73 {middle} {0.73 + step} .985
        ; t {coat} blob {_text([(along, middle + girth * down) for along, down in body])}
        ; t {coat} line {min(0.3, 1.1 * head)} / .74 {middle - 0.1 * girth} {x} {y}""",
    )
    if pattern:
        _only(pen, colours, [])
        _coat_pattern(pen, pattern, middle, girth, (x, y))
        pen.canvas.clip = None
    muzzle = f"{face}*.9 round oval {x + 0.9 * head * across} {y + 0.35 * head} {0.7 * head * across} {0.55 * head}"
    of_part = {
        "trunk": f"""t fur line .12 / {x + 0.05} {y} 1 {y + 0.22} 1 .72 1.05 .82
        ; dark fur blob .62 {y - 0.16} .78 {y - 0.2} .8 {y + 0.2} .68 {y + 0.3}
        ; white gloss line .04 / .9 {y + 0.16} 1.06 {y + 0.3}; black gloss oval {x + 0.02} {y - 0.03} .02 .025""",
        "horns": f"""white round line .04 / {x - 0.04} {y - 0.8 * head} {x + 1.5 * -0.04} {y - 1.7 * head}
        / {x + 0.02} {y - 0.8 * head} {x + 1.5 * 0.02} {y - 1.7 * head}""",
        "mane": f"black fur line .09 / .7 {middle - 0.5 * girth} {x - 0.06} {y - 0.8 * head}",
    }
    ear = ((0.0, -0.6), (-0.03, -1.6), (0.06, -0.7))
    ears = [_text([(x + (d * head + dx) * across, y + dy * head) for dx, dy in ear]) for d in (-0.7, 0.15)]
    eye = f"{x + 0.25 * head * across} {y - 0.2 * head} {0.16 * head * across} {0.16 * head}"
    ears_and_eye = "" if part == "trunk" else f"dark fur poly {ears[0]} / {ears[1]}; black gloss oval {eye}"
    head_parts = f"{face} fur oval {x} {y} {1.05 * head * across} {head}; {'' if part == 'flat' else muzzle}"
    draw_parts(pen, colours, f"{head_parts}; {of_part.get(part, '')}; {ears_and_eye}")


def _coat_pattern(pen: Pen, pattern: str, middle: float, girth: float, head: Point) -> None:
    if pattern == "stripes":
        along = np.arange(0.08, 0.9, 0.075).tolist()
        lines = [_text([(x, middle - girth), (x + 0.03, middle), (x - 0.02, 1.0)]) for x in along]
        places = [(0.72 + t * (head[0] - 0.72), middle - t * 0.5) for t in (0.3, 0.6, 0.9)]
        lines += [_text([(x - 0.09, y - 0.1), (x + 0.12, y)]) for x, y in places]
        draw_parts(pen, {}, f"black matte line .045 / {' / '.join(lines)}")
        return
    spots = pattern == "spots"
    count, shape, tone = (30, ".045 .3 9", ".48,.27,.11") if spots else (6, ".11 .7 9", ".16,.12,.1")
    low, high = (head[1], 0.8) if spots else (middle - girth / 2, middle + girth / 2)
    places = zip(pen.rng.uniform(0.08, 0.92, count).tolist(), pen.rng.uniform(low, high, count).tolist(), strict=True)
    draw_parts(pen, {}, f"{tone} matte wob {' / '.join(f'{x} {y} {shape}' for x, y in places)}")


def _keep(pen: Pen, _colours: Colours, _words: list[str]) -> None:
    """Let a defect bring back what is drawn so far."""
    pen.canvas.kept = pen.canvas.rgb.copy()
    pen.canvas.start_coverage()


def _only(pen: Pen, _colours: Colours, _words: list[str]) -> None:
    """Draw nothing any more outside of what has been drawn."""
    pen.canvas.clip = pen.canvas.coverage.astype(np.float32) / 255


def _scratch(pen: Pen, colours: Colours, words: list[str]) -> None:
    """Draw a wandering line: opacity, width, its colour and that of its middle, start, heading, length and bend."""
    opacity, width, outer, inner, *path = words
    x, y, heading, length, bend = numbers(" ".join(path), pen.rng)
    line = wandering(pen.rng, (x, y), heading, length, bend)
    for colour, share in ((outer, 1.0), (inner, 0.4)):
        pen.draw([line], colour_of(colour, colours, pen.rng), finish_of(f"matte@{opacity}"), share * float(width))


def _grain(pen: Pen, colours: Colours, _words: list[str]) -> None:
    """Fill the canvas with the rings and pores of a board."""
    canvas, rng, tone = pen.canvas, pen.rng, plane(colours["t"])
    x, y = canvas.axes()
    warp = canvas.noise("cloud", 1.6) * 0.05 + canvas.noise("fibre", 2.0) * 0.02 + rng.normal(0, 0.03) * (x - 0.5)
    rings = np.sin((y + warp) * rng.uniform(55, 75) + rng.uniform(0, 6))
    depth = 0.5 + 0.17 * rings + 0.10 * canvas.noise("fibre", 0.8) + 0.03 * canvas.noise("grain")
    dark = tone * plane((0.57, 0.48, 0.41))
    canvas.rgb[:] = (dark + np.clip(depth, 0, 1) * (tone - dark)) * (1 + 0.06 * (x + y - 1))
    pores = [[(x, y), (x + 0.03, y)] for x, y in rng.uniform(0, 1, (80, 2)).tolist()]
    pen.draw(pores, (0.25, 0.14, 0.07), finish_of("flat@.4"), 0.003)


def _shine(pen: Pen, _colours: Colours, _words: list[str]) -> None:
    """Make the bright and dark wedges that concentric tool marks leave on a turned face."""
    canvas, side, centre = pen.canvas, float(pen.size[0]), np.asarray(pen.centre)  # in float64
    x, y = canvas.axes()
    dx, dy = (x * canvas.width - centre[0]) / side, (y * canvas.height - centre[1]) / side
    square = dx * dx + dy * dy + np.float32(1e-6)
    wedges = ((dx * dx - dy * dy) * 0.62 + 2 * dx * dy * 0.78) / square
    canvas.rgb *= np.where(square < 0.3**2, 1 + 0.2 * wedges + 0.03 * np.cos(np.sqrt(square) * 200), np.float32(1))


SPECIALS: dict[str, Special] = {
    **{"sky": _sky, "houses": _houses, "trees": _trees, "firs": _firs, "window": _window},
    **{"person": _person, "animal": _animal},
    **{"keep": _keep, "only": _only, "scratch": _scratch, "grain": _grain, "shine": _shine},
}
