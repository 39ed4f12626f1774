"""The generated products: a table of what they are made of, one of what is laid over them as a defect, and the drawing of both."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from invad.data.embedded.drawing import Canvas, Pen, hsv, image_rng, jittered
from invad.data.embedded.parts import draw_parts, numbers, parse
from invad.data.embedded.specials import SPECIALS

# name | backdrop | poses, in turn: centre, width in shorter image edges, height of it, turn in radians, quarter turns, mirrored | hue
# saturation value of the main colour | parts
_PRODUCTS = """
hazelnut | .1,.11,.12 | .47:.53 .47:.53 .68:.78 1:1.1 -.6:.6 | .055:.08 .62:.74 .55:.64 | black shadow@.75 oval .5 .48 .44 .46; keep
  t shell blob .5 -.02 .8 .08 .98 .4 .9 .8 .5 .98 .1 .8 .02 .4 .2 .08; only
  t*.6 flat@.25 2line .008 / .5 .05 .3:.4 .25 .2:.35 .6 .3 .9 / .5 .05 .2:.3 .25 .1:.2 .5 .15:.25 .8 / .5 .05 .45 .3 .4:.5 .7
  t*.7 flat@.2 2line .014 / .5 .05 .35 .3 .3:.4 .8 / .5 .05 .15:.25 .3 .05:.1 .6; t*1.35 flat@.2 2line .01 / .5 .05 .25:.35 .3 .25 .8
  h.075:.095,.42:.5,.68:.78 crumb@.9 blob .28 .79 .4 .7 .6 .7 .72 .79 .75 1 .25 1
metal_nut | .17,.18,.19 | .49:.51 .49:.51 .82:.86 1 .36:.44 0~1~2~3 | .1 .04:.08 .48:.52 | black shadow@.7 oval .5 .5 .45 .45; keep
  t*.93 steel poly .37 .2 .39 .015 .59 .015 .635 .2 / .8 .37 .985 .39 .985 .59 .8 .635 / .63 .8 .61 .985 .41 .985 .365 .8
  t*.93 steel poly .2 .63 .015 .61 .015 .41 .2 .365; t steel oval .5 .5 .385 .385; t*.62 flat oval .5 .5 .31 .31
  t*1.08 face oval .5 .5 .3 .3; shine; t*.55 dent oval .5 .5 .185 .185; .13,.13,.14 matte oval .5 .5 .15 .15
wood | .6,.4,.25 | .5 .5 1 1 0 | .07:.08 .47:.53 .76:.84 | grain
candle | .14,.3,.22 | .25:.29 .26 .46 1 -3:3 / .71:.75 .26 .46 1 -3:3 / .27 .72:.76 .46 1 -3:3 / .73 .72:.76 .46 1 -3:3 | .12 .16 .88:.92 |
  black shadow@.6 oval .5 .5 .45 .45; keep; .7,.7,.72 can oval .5 .5 .45 .45; t wax oval .5 .5 .42 .42; only
  t*.93 dent@.5 wob .5 .5 .15:.2 .2; keep; black shadow@.4 line .05 / .5 .5 .66 .53
  .86,.83,.78 round line .05 / .5 .5 .58 .51 .66 .53; .3,.25,.22 round line .05 / .62 .52 .66 .53
cashew | .12,.12,.14 | .47:.53 .47:.53 .92:1.08 .84 -.6:.6 0 0~1 | .09:.11 .42:.5 .8:.86 |
  black shadow@.7 blob .04 .42 .1 .16 .38 .05 .7 .1 .93 .36 .97 .7 .84 .88 .66 .8 .6 .58 .48 .5 .34 .56 .22 .66 .08 .6; keep
  t shell blob .04 .42 .1 .16 .38 .05 .7 .1 .93 .36 .97 .7 .84 .88 .66 .8 .6 .58 .48 .5 .34 .56 .22 .66 .08 .6; only
  t*.82 crease line .03 / .16 .4:.44 .35 .26:.32 .6 .26:.34 .78 .45; t*.72 flat@.5 strew .05 .95 14 .01
pcb1 | .62,.63,.64 | .49:.51 .49:.51 1.16:1.21 .62 -.04:.04 | .59:.62 .75:.85 .47:.53 | black shadow@.6 rect 0 0 1 1; t board rect 0 0 1 1
  t*1.55 matte line .014 / .04 .06 .3 .06 .36 .14 .64 .14 .7 .06 .96 .06 / .04 .12 .3 .12 .36 .2 .64 .2 .7 .12 .96 .12
  t*1.55 matte line .014 / .04 .48 .3 .48 .36 .56 .64 .56 .7 .48 .96 .48 / .365 .05 .365 .45 .395 .52 .395 .94
  t*1.55 matte line .014 / .45 .05 .45 .45 .48 .52 .48 .94 / .55 .05 .55 .45 .58 .52 .58 .94 / .635 .05 .635 .45 .665 .52 .665 .94
  .75,.72,.6 matte disc .37 .08 .018 / .47 .08 .018 / .53 .08 .018 / .64 .08 .018
  .75,.72,.6 matte disc .37 .75 .018 / .64 .75 .018 / .47 .5 .018 / .53 .5 .018
  .8,.78,.72 metal disc .035 .06 .036 / .965 .06 .036 / .035 .94 .036 / .965 .94 .036
  .45,.45,.45 matte disc .035 .06 .02 / .965 .06 .02 / .035 .94 .02 / .965 .94 .02
  black gloss rect .41 .92 .59 1; steel metal keys .417 .19 .6245 .44 1 4 / .367 .59 .5245 .75 1 4
  steel metal rect .55 .56 .57 .68 / .6 .56 .62 .68 / .465 .785 .5 .875 / .54 .785 .575 .875; keep
  steel metal rect .38 .165 .43 .235 / .38 .325 .43 .395 / .575 .365 .625 .435 / .575 .185 .625 .255
  black gloss rect .391 .165 .419 .235 / .391 .325 .419 .395 / .586 .365 .614 .435 / .586 .185 .614 .255
  black shadow@.5 rect .435 .18 .565 .42 / .385 .58 .475 .74; .13,.13,.14 chip rect .435 .18 .565 .42 / .385 .58 .475 .74
  .3,.3,.3 flat disc .461 .22 .015 / .405 .61 .012; .5,.5,.5 flat line .012 / .474 .285 .54 .285 / .474 .33 .54 .33 / .412 .68 .457 .68
  .72,.72,.74 can disc .585 .62 .058; black flat poly .595 .58 .616 .62 .595 .66
  .74,.74,.72 can blob .455 .775 .585 .775 .585 .885 .455 .885
  black shadow@.6 disc .2 .5 .25 / .8 .5 .25; .72,.72,.7 can disc .2 .5 .25 / .8 .5 .25; .22,.22,.23 dent disc .2 .5 .185 / .8 .5 .185
  .58,.58,.56 flat mesh .014 / .2 .5 .18 7 / .8 .5 .18 7
  .83,.74,.48 metal rect .425 .94 .445 1.16 / .468 .94 .488 1.16 / .512 .94 .532 1.16 / .555 .94 .575 1.16
01 | .7,.71,.73 | .49:.51 .49:.51 .86:.9 1 -.3:.3 | .56:.6 .1:.16 .34:.4 | black shadow@.7 oval .5 .5 .46 .46; t steel oval .5 .5 .46 .46
  t*.75 flat@.6 ring .02 / .5 .5 .4 .4; t*1.12 face oval .5 .5 .24 .24; t*.5 dent oval .5 .5 .17 .17; black matte oval .5 .5 .12 .12; keep
  .1,.1,.11 dent disc .5 .18 .045 / .777 .34 .045 / .777 .66 .045 / .5 .82 .045 / .223 .66 .045 / .223 .34 .045
02 | .3,.2,.14 | .5 .5 1 1 0 | .05:.06 .5:.56 .5:.56 | grain; black flat@.45 line .008 / 0 .33:.35 1 .33:.35
  black flat@.45 line .008 / 0 .66:.68 1 .66:.68
03 | .14,.15,.17 | .5 .49:.51 1.24:1.27 .44 -.03:.03 | .1 .03:.07 .62:.68 | black shadow@.7 rect 0 0 1 1; t steel rect 0 0 1 1
  t*.8 flat@.5 line .02 / .02 .12 .98 .12 / .02 .88 .98 .88; keep
  .12,.12,.13 dent disc .1 .5 .16 / .3 .5 .16 / .5 .5 .16 / .7 .5 .16 / .9 .5 .16
  .2,.2,.21 dent disc .2 .24 .05 / .4 .24 .05 / .6 .24 .05 / .8 .24 .05 / .2 .76 .05 / .4 .76 .05 / .6 .76 .05 / .8 .76 .05
vad | .33,.33,.34 | .497:.503 .497:.503 1 1 -.02:.02 | .1 .04:.08 .58:.63 | t metal oval .5 .51 .5 .5; .17,.16,.15 matte oval .5 .51 .44 .44
  .6,.5,.35 crumb oval .5 .51 .38 .38; keep; .66,.66,.68 metal line .11 / .27 .51 .15 .96 / .73 .49 .85 .96
  .86,.68,.34 round line .022 / .33 .28 .36 .4 .31 .51 / .68 .28 .8 .38 .77 .48
  .78,.78,.77 gloss wob .35 .2 .09:.1 .2 / .69 .22 .08:.09 .2; black matte disc .5 .7 .06
"""

# data set | product | kind of defect | parts; of several lines of one kind one is drawn. `bare`: what was kept. Opacity and size make a
# defect hard or easy.
_DEFECTS = """
mvtec | hazelnut | crack | scratch .6 .045 .84,.66,.44 .06,.03,.02 .3:.7 .12 .9:2.2 .5:.65 .25
mvtec | hazelnut | print | h.12,.1,.9 flat@.42 line .028 / .33:.36 .3 .34 .47 / .33 .3 .4 .33 .34 .38 .4 .43
  h.12,.1,.9 flat@.42 line .028 / .45 .47 .45 .3 .52 .33 .45 .39 .52 .47
mvtec | hazelnut | print | h.12,.1,.9 flat@.42 line .028 / .5 .34:.38 .5 .52 / .5 .36 .57 .39 .5 .44
  h.12,.1,.9 flat@.42 line .028 / .6 .52 .6 .35 .67 .38 .6 .43 .67 .47 .6 .52
mvtec | metal_nut | bent | bare flat poly .36 0 .62 0 .64 .14 .57 .122 .5 .115 .43 .122 .36 .14
  t*1.2 steel poly .46 .117 .6:.64 -.03 .75 .05:.09 .635 .145
mvtec | metal_nut | bent | bare flat poly .36 0 .62 0 .64 .14 .57 .122 .5 .115 .43 .122 .36 .14
  t*1.2 steel poly .37 .14 .25 .05:.09 .36:.4 -.03 .54 .117
mvtec | metal_nut | scratch | scratch .5 .036 .12,.11,.11 .97,.97,.95 .38:.5 .22~.78 -.3:.3 .18:.3 .12
  scratch .5 .036 .12,.11,.11 .97,.97,.95 .38:.5 .22~.78 -.5:.3 .18:.3 .12
mvtec | metal_nut | scratch | scratch .5 .036 .12,.11,.11 .97,.97,.95 .22~.78 .38:.5 1.3:1.9 .18:.3 .12
  scratch .5 .036 .12,.11,.11 .97,.97,.95 .22~.78 .38:.5 1.1:1.9 .18:.3 .12
mvtec | wood | hole | .12,.07,.05 soot@.42 wob .2:.8 .2:.5 .045:.07 .4; ?.12,.07,.05 soot@.42 wob .2:.8 .55:.8 .045:.07 .4
mvtec | wood | hole | .2,.12,.08 soot@.5 wob .2:.8 .2:.8 .05:.075 .4
mvtec | wood | scratch | scratch .3 .016 .93,.8,.62 .93,.8,.62 .15:.6 .15:.6 .4:1.4 .25:.42 .06
  ?scratch .3 .016 .93,.8,.62 .93,.8,.62 .15:.6 .15:.6 .4:1.4 .25:.42 .06
visa | candle | chunk of wax missing | .42,.38,.3 dent@.9 wob .82 .5 .13:.18 .45
visa | candle | foreign particles | .3,.17,.09 matte@.75 wob .72:.82 .38:.46 .06:.1 .5; .3,.17,.09 matte@.75 wob .66:.8 .56:.66 .06:.1 .5
visa | candle | damaged wick | bare flat oval .58 .52 .14 .1; .35,.3,.25 soot@.45 wob .45 .45 .13 .4
  scratch .85 .055 .2,.17,.15 .2,.17,.15 .5 .5 .6 .42 .35
visa | cashew | burnt | .33,.18,.09 soot@.65 wob .25~.42 .3:.34 .09:.13 .4
visa | cashew | burnt | .33,.18,.09 soot@.65 wob .74:.8 .4:.65 .09:.13 .4
visa | cashew | corner broken | .8,.69,.5 chip wob .88 .8 .16 .3; .1,.1,.12 matte wob .92 .87 .13 .3
visa | cashew | corner broken | .8,.69,.5 chip wob .11 .52 .17 .3; .1,.1,.12 matte wob .06 .54 .14 .3
visa | cashew | scratches | scratch .65 .03 .45,.29,.15 .35,.2,.1 .2~.45~.7 .2:.26 .3:1.3 .22:.34 .15
  scratch .65 .03 .45,.29,.15 .35,.2,.1 .25~.5~.74 .2:.3 .3:1.3 .22:.34 .15
visa | pcb1 | missing component | bare flat rect .41 .17 .6 .45
visa | pcb1 | missing component | bare flat rect .36 .57 .5 .77
visa | pcb1 | missing component | bare flat rect .54 .54 .63 .71
visa | pcb1 | missing component | bare flat rect .45 .765 .6 .905
visa | pcb1 | bent | bare flat rect .42 .94 .5 1.18
  .83,.74,.48 metal poly .425 .94 .445 .94 .35:.38 1.13 .33 1.12 / .468 .94 .488 .94 .41 1.13 .39 1.13
visa | pcb1 | bent | bare flat rect .5 .94 .59 1.18
  .83,.74,.48 metal poly .512 .94 .532 .94 .61 1.13 .59 1.13 / .555 .94 .575 .94 .67 1.12 .62:.65 1.13
visa | pcb1 | scratch | scratch .65 .035 .74,.7,.55 .8,.78,.66 .3:.55 .12:.5 .2:1.3 .25:.4 .12
  ?scratch .65 .035 .74,.7,.55 .8,.78,.66 .3:.55 .12:.5 .2:1.3 .25:.4 .12
btad | 01 | ko | bare flat disc .777 .34 .055
btad | 01 | ko | scratch .6 .036 .12,.12,.12 .95,.95,.93 .2:.5 .15:.25 .4:1.2 .25:.4 .12
btad | 01 | ko | .5,.28,.14 soot@.6 wob .62:.72 .62:.74 .07:.1 .4
btad | 02 | ko | .1,.06,.04 soot@.55 wob .2:.8 .2:.8 .05:.08 .4
btad | 02 | ko | scratch .5 .02 .9,.78,.6 .9,.78,.6 .15:.6 .15:.6 .4:1.4 .25:.42 .06
btad | 03 | ko | bare flat disc .3~.5~.7 .5 .19
btad | 03 | ko | scratch .65 .05 .12,.11,.11 .97,.97,.95 .1:.55 .05:.12 -.05:.25 .25:.4 .05
vad | vad | bad | bare flat disc .69 .22 .12
vad | vad | bad | bare flat line .07 / .35 .33 .36 .4 .31 .51
vad | vad | bad | bare flat line .07 / .7 .33 .8 .38 .77 .48; .86,.68,.34 round line .022 / .69 .3 .62:.66 .4 .76 .48
vad | vad | bad | bare flat disc .35 .2 .125; .78,.78,.77 gloss wob .22:.26 .3:.34 .09 .2
vad | vad | bad | .8,.8,.78 gloss wob .4:.6 .3:.6 .035:.05 .5; .8,.8,.78 gloss wob .4:.6 .35:.55 .02 .5
vad | vad | bad | scratch .65 .024 .2,.16,.1 .95,.9,.8 .35:.5 .5:.6 -.2:.6 .2:.3 .12
vad | vad | bad | .22,.15,.09 soot@.6 wob .4:.6 .5:.6 .07:.09 .4
vad | vad | bad_unseen_defects | .15,.13,.12 matte@.9 wob .42:.6 .95:.97 .045:.055 .5
"""
_LOOKS = {name: cells for name, *cells in parse(_PRODUCTS)}
_OVERLAYS = list(parse(_DEFECTS))
DEFECTS: dict[str, dict[str, tuple[str, ...]]] = {}
"""The kinds of defects of each product, by data set."""
for _dataset, _product, _kind, _ in _OVERLAYS:
    _kinds = DEFECTS.setdefault(_dataset, {})
    _kinds[_product] = tuple(dict.fromkeys((*_kinds.get(_product, ()), _kind)))


def draw_product(
    dataset: str,
    seed: int,
    name: str,
    phase: str,
    kind: str,
    index: int,
    size: tuple[int, int],
    with_defect: bool = True,
) -> tuple[Image.Image, NDArray[np.bool_]]:
    """One image of `size` (width, height) and its mask of anomalous pixels, (height, width) bool, all False for a good one.

    Without its defect the picture is the same elsewhere, and the mask is empty.
    """
    key = (dataset, name, f"{phase}/{kind}", index)
    rng = image_rng(seed, *key, "object")
    canvas = Canvas(rng, *size, light_angle=-2.2 + rng.normal(0, 0.08))
    exposure = 1 + rng.normal(0, 0.035)
    backdrop, poses, tone, parts = _LOOKS[name]
    pen = Pen.whole(canvas)
    draw_parts(pen, {}, f"{backdrop} cloud band 0 1 .85 .04")
    colour = hsv(*numbers(tone, rng))
    for pose in rng.permutation(poses.split("/")).tolist():  # the last one gets the defect
        canvas.clip = None
        x, y, width, height, turn, quarters, mirrored = (*numbers(pose, rng), 0.0, 0.0)[:7]
        side, centre = width * min(canvas.width, canvas.height), (x * canvas.width, y * canvas.height)
        pen = Pen(canvas, centre, (side, side * height), turn + quarters * np.pi / 2, bool(mirrored))
        draw_parts(pen, {"t": jittered(rng, colour, 0.02)}, parts, SPECIALS)
    canvas.start_coverage()
    canvas.rng = image_rng(seed, *key, "defect")
    overlays = [parts for *of, parts in _OVERLAYS if of == [dataset, name, kind]]
    if overlays and with_defect:
        draw_parts(pen, {"t": colour}, overlays[canvas.rng.integers(len(overlays))], SPECIALS)
    mask = canvas.covered()
    canvas.rng = image_rng(seed, *key, "sensor")
    return canvas.photograph(exposure=exposure), mask
