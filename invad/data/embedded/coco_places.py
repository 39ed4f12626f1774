"""Places of the generated COCO scenes: a line or a few for each, and what has to be arranged at random."""

import numpy as np

from invad.data.embedded.drawing import (
    FLAT,
    FUR,
    GLOSSY,
    MATTE,
    Canvas,
    Colour,
    Pen,
    box,
    hsv,
    jittered,
    scaled,
    wobbly,
)
from invad.data.embedded.parts import band, draw_parts, numbers, parse

# name | where the ground begins (0 top, 1 bottom) | hue saturation value of the main colour | parts
_TABLE = """
sky | .25 | 0 0 0 | sky 1; .3,.4,.34 fur ridge .93 .04 9
street | .6 | 0 0 0 | sky .5; houses; .66,.64,.61 grain band .53 .62 .92 .05; .32,.33,.34 grain band .62 1 1.25 .07
  .72,.71,.68 matte line .015 / -.1 .625 1.1 .625
  .85,.84,.78 matte poly .02 .8 .16 .8 .17 .83 .01 .83 / .38 .8 .52 .8 .53 .83 .37 .83 / .74 .8 .88 .8 .89 .83 .73 .83
meadow | .5 | .15:.27 .45:.6 .5:.65 | sky .45; .38,.49,.46 matte ridge .37 .04 8; t grass band .43 1 .73 .15; trees .43
coast | .56 | .53:.57 .6:.72 .5:.65 | sky .42; t fibre band .4 .82 .91 .14 1.5; .83,.74,.56 grain band .8 1 .91 .06
  white cloth line .025 / -.05 .79:.81 .1 .79:.82 .25 .79:.81 .4 .79:.82 .55 .79:.81 .7 .79:.82 .85 .79:.81 1.05 .79:.82
snow | .58 | 0 0 0 | sky .5; .72,.77,.84 matte poly -.1 .5 .2 .18 .42 .36 .7 .12 1.1 .45 1.1 .6 -.1 .6
  .9,.92,.95 cloud band .45 1 .92 .03; firs
court | .55 | .28~.056~.56 .57 .52:.62 | .24,.36,.26 cloud band 0 .36 .7 .2; .5,.53,.5 matte grid .012 / -.1 .05 1.1 .36 11 3
  t grain band .36 1 .88 .07; white matte line .02 / -.1 .52 1.1 .52 / .2:.5 .52 -.1:.3 1.1 / .6:.9 .52 .9:1.2 1.1
room | .7 | .05:.65 .08:.3 .68:.86 | t cloud band 0 .62 .9 .015; ?t*.92 flat grid .05 / 0 -.1 1 .62 12 0; window
  h.05:.09,.5:.6,.5:.6 fibre band .62 1 1.15 .12
  .3,.21,.13 flat line .006 / -.1 .66 1.1 .66 / -.1 .72 1.1 .72 / -.1 .8 1.1 .8 / -.1 .9 1.1 .9
  white matte rect -.1 .585 1.1 .625
tabletop | .5 | .05:.09 .5:.65 .45:.58 | h.02:.6,.1:.3,.5:.8 cloud band 0 .3 1.1 .03; t fibre band .28 1 1.35 .13 1.4
  t*.7 flat line .007 / -.1 .29 1.1 .29 / -.1 .42 1.1 .42 / -.1 .6 1.1 .6 / -.1 .82 1.1 .82
  ?h0:1,.35,.75 cloth poly .16 .36 .84 .36 1.02 1.05 -.02 1.05
desk | .55 | .06:.1 .15:.5 .46:.78 | h.08:.6,.03:.15,.65:.85 cloud band 0 .44 .88 .02; t fibre band .42 1 1.09 .06
  t*.65 wood line .012 / -.1 .425 1.1 .425
tiled | .72 | .4:.62 .04:.22 .75:.9 | t cloud band 0 .68 .93 .02; t*.8 flat grid .009 / 0 -.09 1 .66 9 7
  h.1,.05,.42:.5 grain band .66 1 1.1 .04
  .33,.32,.31 flat 2line .008 / -.1 .66 -.8 1.05 / .05 .66 -.475 1.05 / .2 .66 -.15 1.05 / .35 .66 .175 1.05 / .5 .66 .5 1.05
  .33,.32,.31 flat line .008 / -.1 .75 1.1 .75 / -.1 .87 1.1 .87
"""
_PLACES = {name: (float(ground), tone, parts) for (name, ground, tone), parts in parse(_TABLE)}


def draw_place(canvas: Canvas, name: str) -> float:
    """Fill the canvas, and return the height (0 top, 1 bottom) where the ground begins."""
    ground, tone, parts = _PLACES[name]
    specials = {"sky": _sky, "houses": _houses, "trees": _trees, "firs": _firs, "window": _window}
    draw_parts(Pen.whole(canvas), hsv(*numbers(tone, canvas.rng)), parts, specials)
    return ground


def _sky(pen: Pen, _tone: Colour, words: list[str]) -> None:
    canvas, until = pen.canvas, float(words[0])
    band(pen, jittered(pen.rng, (0.45, 0.63, 0.86), 0.08), "cloud", 0, until, 1, 0)
    rows = round(until * canvas.height)
    haze = np.linspace(0, 0.9, rows, dtype=np.float32)[:, None]
    cloud = np.clip(canvas.noise("cloud", 1.5)[:rows] * 0.5 - 0.1 + pen.rng.uniform(-0.2, 0.3), 0, 0.75)
    for weight, white in ((haze, 0.86), (cloud, 0.96)):
        canvas.rgb[:, :rows] += weight * (np.float32(white) - canvas.rgb[:, :rows])


def _houses(pen: Pen, _tone: Colour, _words: list[str]) -> None:
    rng, left = pen.rng, -0.05
    while left < 1.0:
        right, top = left + rng.uniform(0.2, 0.36), rng.uniform(0.03, 0.26)
        wall = hsv(rng.uniform(0.02, 0.13), rng.uniform(0.1, 0.45), rng.uniform(0.4, 0.75))
        pen.rect(left, top, right, 0.56, wall)
        places = [(x, y) for x in np.linspace(left + 0.03, right - 0.06, 4).tolist() for y in (0.05, 0.15, 0.25)]
        pen.polys([box(x, top + y, x + 0.035, top + y + 0.06) for x, y in places], scaled(wall, 0.45), GLOSSY)
        left = right


def _trees(pen: Pen, _tone: Colour, words: list[str]) -> None:
    ground = float(words[0])
    for x in pen.rng.uniform(-0.05, 1.05, pen.rng.integers(2, 6)).tolist():
        size = pen.rng.uniform(0.06, 0.12)
        pen.rect(x - 0.01, ground - 0.02, x + 0.01, ground + 0.05, (0.28, 0.20, 0.14))
        pen.blob(wobbly(pen.rng, x, ground - 0.5 * size, size, 0.4), jittered(pen.rng, (0.22, 0.36, 0.18)), FUR)


def _firs(pen: Pen, _tone: Colour, _words: list[str]) -> None:
    for x, size in zip(pen.rng.uniform(0, 1, 6).tolist(), pen.rng.uniform(0.08, 0.15, 6).tolist(), strict=True):
        pen.poly([(x, 0.5 - 1.6 * size), (x + 0.4 * size, 0.52), (x - 0.4 * size, 0.52)], (0.13, 0.24, 0.19), FUR)


def _window(pen: Pen, _tone: Colour, _words: list[str]) -> None:
    """Draw a picture, or a window with its bars."""
    x, frame = pen.rng.uniform(0.05, 0.6), (0.90, 0.89, 0.85)
    pen.rect(x, 0.06, x + 0.28, 0.32, frame, GLOSSY)
    pen.rect(x + 0.02, 0.08, x + 0.26, 0.30, hsv(pen.rng.uniform(0.4, 0.65), 0.35, 0.8), MATTE)
    if pen.rng.integers(0, 2):
        pen.lines([[(x + 0.14, 0.08), (x + 0.14, 0.30)], [(x + 0.02, 0.19), (x + 0.26, 0.19)]], 0.02, frame, FLAT)
