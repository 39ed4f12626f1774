"""The look of the generated COCO scenes: a line or a few for each category, place and theme."""

from invad.data.embedded.drawing import Canvas, Pen, hsv, jittered
from invad.data.embedded.parts import draw_parts, numbers, parse
from invad.data.embedded.specials import SPECIALS

# name | width height (in shorter image edges), how it comes | hue saturation value of the main colour | parts; the object faces right
_THINGS = """
person | .25 .62 | 0 .6 .75 | person
bicycle | .55 .36 painted | .55 .7 .6 | black matte rim .055 / .21 .7 .3 / .79 .7 .3; steel flat spokes .008 / .21 .7 .3 / .79 .7 .3
  t metal line .05 / .21 .7 .46 .7 .37 .36 .21 .7 / .46 .7 .7 .36 .38 .38; black cloth line .07 / .29 .3 .43 .3
  steel metal line .05 / .79 .7 .69 .24 .78 .16
car | .66 .29 painted | 0 .75 .7 | black matte rect .05 .72 .95 .9
  t gloss blob 0 .5 .06 .44 .2 .4 .31 .08 .66 .06 .82 .4 .99 .5 1.01 .84 0 .86
  pane gloss poly .27 .4 .35 .15 .48 .14 .48 .4 / .52 .4 .52 .14 .63 .14 .75 .4
  t*.6 flat line .015 / .5 .42 .5 .8 / .04 .6 .96 .6; 1,.95,.75 round oval .96 .56 .025 .06; .75,.1,.08 round oval .03 .54 .018 .06
  black matte disc .22 .83 .17 / .78 .83 .17; steel metal disc .22 .83 .09 / .78 .83 .09
motorcycle | .52 .34 | .03 .8 .6 | black matte rim .13 / .21 .7 .27 / .79 .7 .27; steel metal blob .33 .5 .62 .5 .62 .86 .36 .86
  steel metal line .07 / .2 .82 .5 .86; t gloss blob .04 .36 .34 .4 .56 .3 .72 .3 .72 .52 .3 .56
  black cloth blob .1 .31 .46 .36 .44 .46 .1 .4; steel metal line .05 / .79 .7 .69 .24 .78 .16
airplane | .78 .3 flying | .6 .6 .7 | t*.8 gloss poly .08 .5 0 .08 .09 .08 .22 .46; t*.7 metal poly .5 .48 .36 .14 .44 .14 .64 .48
  white gloss blob .02 .44 .2 .38 .85 .36 1.02 .52 .85 .64 .2 .58 .04 .5; pane flat keys .21 .44 .84 .5 9 1
  t*.9 metal poly .42 .56 .2 .96 .32 .96 .64 .56; steel round oval .45 .74 .07 .06
bus | .86 .42 painted | .12 .75 .85 | t gloss poly 0 .06 .03 .02 .97 .02 1 .1 1 .88 0 .88; white*.9 gloss rect 0 .62 1.01 .7
  pane gloss keys .04 .16 .96 .58 5 1; t*.6 matte rect .8 .16 .89 .86
  black matte disc .2 .88 .11 / .76 .88 .11; steel metal disc .2 .88 .06 / .76 .88 .06
train | 1.05 .36 | .38 .5 .5 | .3,.27,.25 matte rect -.02 .93 1.02 1; t gloss poly 0 .06 .03 .02 .88 .02 1 .45 1.03 .85 0 .88
  white*.9 gloss rect 0 .62 1.01 .7; pane gloss keys .04 .16 .96 .58 7 1; t*.6 matte rect .8 .16 .89 .86
  black matte disc .12 .88 .08 / .24 .88 .08 / .7 .88 .08 / .86 .88 .08
  steel metal disc .12 .88 .04 / .24 .88 .04 / .7 .88 .04 / .86 .88 .04
truck | .8 .42 painted | .6 .7 .6 | black matte rect .02 .74 .97 .84; white*.92 metal rect 0 .03 .66 .76
  .6,.6,.6 flat line .015 / .16 .06 .16 .73 / .33 .06 .33 .73 / .5 .06 .5 .73; t gloss blob .69 .2 .88 .2 .97 .5 1 .8 .69 .8
  pane gloss poly .78 .27 .87 .27 .93 .48 .78 .48; black matte disc .15 .86 .13 / .32 .86 .13 / .82 .86 .13
  steel metal disc .15 .86 .07 / .32 .86 .07 / .82 .86 .07
boat | .52 .5 painted | .58 .7 .45 | brown wood line .03 / .46 .02 .46 .72; white cloth poly .49 .04 .49 .62 .86 .62
  white*.85 cloth poly .43 .12 .43 .62 .16 .62; t gloss poly 0 .7 1 .66 .86 .97 .16 .97; white*.9 gloss line .04 / .02 .73 .97 .7
traffic light | .13 .6 | .14 .6 .3 | steel*.65 metal rect .42 .3 .58 1; t gloss pad .08 0 .92 .6 .2; h0,.9,.3:.95 gloss oval .5 .11 .26 .08
  h.13,.9,.3:.95 gloss oval .5 .3 .26 .08; h.38,.9,.3:.95 gloss oval .5 .49 .26 .08
fire hydrant | .2 .34 | .01 .85 .75 | t*.8 metal rect .12 .88 .88 1; t round rect .25 .3 .75 .9; t gloss oval .5 .26 .34 .16
  t metal rect .42 .04 .58 .14; t*.8 gloss 2oval .14 .5 .14 .08; steel metal oval .5 .55 .14 .1
stop sign | .27 .56 | 0 .85 .72 | steel*.65 metal rect .42 .3 .58 1; white gloss oval .5 .25 .5 .25 8; t matte oval .5 .25 .45 .225 8
  white flat line .1 / .25 .21 .25 .29 / .42 .21 .42 .29 / .58 .21 .58 .29 / .75 .21 .75 .29
parking meter | .14 .5 | .6 .1 .5 | steel*.65 metal rect .42 .3 .58 1; t metal blob .05 .1 .25 -.02 .75 -.02 .95 .1 .85 .45 .15 .45
  pane gloss rect .26 .09 .74 .21
bench | .58 .3 | .07 .6 .5 | black metal 2line .08 / .1 .5 .08 .98 / .12 .05 .12 .6; t wood rect 0 .05 1 .18 / 0 .24 1 .37
  t*1.15 wood rect 0 .5 1 .59 / 0 .62 1 .71
bird | .26 .22 flying | .58 .3 .55 | t*.7 fur poly 0 .75 .3 .5 .36 .68; .8,.5,.15 matte line .03 / .48 .75 .46 1 / .56 .75 .57 1
  t fur blob .2 .55 .5 .28 .82 .35 .8 .72 .5 .88 .3 .78; t fur oval .77 .28 .16 .18; .9,.62,.15 matte poly .9 .22 1 .31 .9 .36
  t*.65 fur blob .12 .6 .45 .4 .68 .48 .5 .7; black gloss oval .81 .24 .03 .035
cat | .4 .28 | .07 .65 .8 | animal leg=.34 neck=.22 head=.19 girth=.34 part=flat
dog | .46 .36 | .08 .25 .42 | animal leg=.4 neck=.22 head=.15 girth=.32
horse | .66 .56 | .05 .6 .42 | animal leg=.46 neck=.38 head=.11 girth=.3 part=mane
sheep | .46 .34 | .12 .1 .86 | animal leg=.28 neck=.12 head=.14 girth=.52 part=wool
cow | .64 .44 | .08 .12 .86 | animal leg=.36 neck=.12 head=.14 girth=.44 pattern=patches part=horns
elephant | .8 .6 | .62 .08 .5 | animal leg=.36 neck=.12 head=.17 girth=.52 part=trunk
bear | .62 .44 | .07 .5 .3 | animal leg=.3 neck=.12 head=.16 girth=.5 part=flat
zebra | .62 .5 | .1 .05 .9 | animal leg=.42 neck=.32 head=.12 girth=.34 pattern=stripes part=mane
giraffe | .46 .8 | .11 .45 .85 | animal leg=.44 neck=.6 head=.06 girth=.2 pattern=spots part=horns
backpack | .28 .36 | .6 .6 .45 | t*.6 cloth line .06 / .25 .4 .3 .05 .7 .05 .75 .4; t cloth blob .14 .05 .86 .05 1.04 .98 -.04 .98
  t*.75 cloth blob .16 .56 .84 .56 .88 .94 .12 .94; .85,.72,.35 metal rect .43 .5 .57 .6
umbrella | .52 .5 painted | .95 .75 .7 | brown wood line .04 / .5 .1 .5 .92 .56 .98 .62 .92
  t round poly 0 .52 .03 .36 .13 .19 .25 .1 .39 .05 .5 .04 .61 .05 .75 .1 .87 .19 .97 .36 1 .52 .83 .46 .67 .52 .5 .46 .33 .52 .17 .46
  t*1.35 cloth poly .5 .04 .67 .52 .5 .46 .33 .52
handbag | .3 .3 | .04 .65 .5 | t*.6 cloth line .06 / .25 .4 .3 .05 .7 .05 .75 .4; t cloth blob .14 .32 .86 .32 1.04 .98 -.04 .98
  t*.75 cloth blob .16 .56 .84 .56 .88 .94 .12 .94; .85,.72,.35 metal rect .43 .5 .57 .6
tie | .11 .42 lying | .62 .7 .4 | t cloth poly .3 .12 .7 .12 1 .8 .5 1 0 .8
  t*1.5 cloth poly .1 .4 .8 .28 .8 .34 .1 .46 / .1 .6 .8 .48 .8 .54 .1 .66 / .1 .8 .8 .68 .8 .74 .1 .86
  t*.8 cloth poly .2 0 .8 0 .66 .14 .34 .14
suitcase | .34 .46 painted | .48 .6 .5 | black metal line .06 / .36 .2 .36 0 .64 0 .64 .2; t gloss pad 0 .15 1 .98 .12
  t*.65 flat line .03 / .25 .24 .25 .9 / .5 .24 .5 .9 / .75 .24 .75 .9
frisbee | .24 .13 flying | .95 .7 .9 | t gloss oval .5 .5 .5 .5; t*1.2 dent oval .5 .45 .36 .34
skis | .72 .14 lying | .02 .75 .8 | t gloss poly 0 .15 .93 .15 1 .03 .95 .35 0 .35 / 0 .6 .93 .6 1 .48 .95 .8 0 .8
  black matte rect .4 .09 .56 .41 / .4 .54 .56 .86
snowboard | .6 .18 lying | .78 .6 .6 | t gloss blob -.02 .35 .1 .1 .9 .1 1.02 .35 .9 .65 .1 .65; white*.95 gloss rect .08 .32 .92 .44
sports ball | .22 .22 | .08 .65 .88 | t round oval .5 .5 .5 .5; black flat line .035 / .04 .45 .4 .6 .94 .4 / .45 .02 .4 .5 .6 .97
kite | .36 .5 flying painted | .97 .8 .85 | white matte line .03 / .5 .68 .44 .78 .56 .88 .48 1; t cloth poly .5 0 1 .3 .5 .7 0 .3
  h0:1,.8,.9 cloth poly .5 0 1 .3 .5 .3 / 0 .3 .5 .3 .5 .7
baseball bat | .58 .1 lying | .09 .55 .72 | t wood blob -.02 .1 .5 .25 .98 .4 .98 .6 .5 .75 -.02 .9; t*.7 round oval .985 .5 .015 .2
baseball glove | .27 .3 lying | .06 .7 .5 | t cloth line .24 / .5 .6 .25 .1 / .5 .6 .45 .08 / .5 .6 .65 .1 / .5 .6 .85 .22 / .5 .6 .1 .45
  t cloth blob .15 .4 .9 .35 .85 .98 .25 .98; t*.5 flat line .03 / .3 .4 .4 .6 / .5 .36 .52 .6
skateboard | .52 .15 | .45 .6 .5 | t gloss blob -.02 .35 .1 .1 .9 .1 1.02 .35 .9 .65 .1 .65; white*.95 gloss rect .08 .32 .92 .44
  white round 2oval .2 .8 .06 .2
surfboard | .8 .2 lying | .14 .5 .92 | t gloss blob -.02 .35 .1 .1 .9 .1 1.02 .35 .9 .65 .1 .65; white*.95 gloss rect .08 .32 .92 .44
tennis racket | .26 .54 lying | .7 .6 .55 | .8,.82,.78 sheer oval .5 .3 .44 .28
  white flat line .015 / .3 .06 .3 .54 / .5 .02 .5 .58 / .7 .06 .7 .54 / .1 .2 .9 .2 / .1 .3 .9 .3 / .1 .4 .9 .4
  t gloss ring .09 / .5 .3 .44 .28; t gloss line .09 / .5 .58 .5 .98; black cloth line .13 / .5 .75 .5 .98
bottle | .14 .46 | .38 .6 .35 | t gloss rect .36 .02 .64 .4; t gloss pad 0 .3 1 1 .3; white matte rect .06 .5 .94 .8
  .75,.15,.12 gloss rect .34 0 .66 .08
wine glass | .2 .42 | .97 .8 .4 | .8,.85,.88 glass rect .45 .5 .55 .95; .8,.85,.88 glass oval .5 .95 .36 .05
  .85,.9,.92 glass blob .08 0 .92 0 1 .4 .5 .66 0 .4; t gloss blob .06 .25 .94 .25 .9 .44 .5 .62 .1 .44
cup | .28 .25 painted | .56 .4 .75 | t*.85 gloss line .11 / .74 .25 .98 .3 .95 .6 .7 .7; t gloss pad 0 .1 .8 1 .15
  .22,.12,.07 matte oval .4 .13 .36 .11
fork | .46 .075 lying | .6 .03 .8 | t metal line .34 / .4 .5 .97 .5
  t metal rect 0 .1 .24 .24 / 0 .33 .24 .47 / 0 .56 .24 .7 / 0 .79 .24 .93
  t metal blob .2 .06 .32 .06 .46 .5 .32 .96 .2 .96
knife | .5 .065 lying | .6 .03 .85 | .2,.15,.12 metal line .34 / .4 .5 .97 .5; t metal poly 0 .35 .1 .15 .56 .2 .56 .85 .12 .8
spoon | .42 .1 lying | .12 .1 .8 | t metal line .34 / .4 .5 .97 .5; t gloss oval .18 .5 .18 .46; t*.8 dent oval .18 .5 .12 .3
bowl | .44 .26 | .1 .15 .85 | t gloss blob 0 .25 1 .25 .9 .8 .65 1 .35 1 .1 .8; t*.75 dent oval .5 .28 .48 .24
  h.05:.3,.6,.75 crumb oval .5 .32 .38 .16
banana | .42 .22 lying | .145 .78 .95 | t round blob 0 .1 .1 .08 .3 .5 .7 .55 .95 .2 1 .3 .85 .85 .5 1.05 .15 .8
  brown matte oval .04 .12 .04 .08
apple | .2 .21 | .98 .8 .75 | t peel wob .5 .53 .52 .06; brown matte line .07 / .5 .16 .55 .02; leaf round blob .55 .08 .7 0 .8 .1 .66 .16
sandwich | .42 .26 | .09 .5 .82 | t crumb blob 0 .62 1 .62 .97 1 .03 1
  .38,.62,.18 crumb poly 0 .5 .25 .44 .75 .44 1 .5 .9 .62 .6 .58 .3 .64 .05 .6
  .8,.3,.24 round rect .04 .56 .96 .68; t crumb blob 0 .45 .08 .02 .92 .02 1 .45
orange | .2 .2 | .08 .88 .95 | t peel wob .5 .53 .52 .06; brown matte line .07 / .5 .16 .55 .02; leaf round blob .55 .08 .7 0 .8 .1 .66 .16
broccoli | .26 .27 | .3 .65 .42 | t*1.7 round poly .38 .5 .62 .5 .6 1 .4 1
  t crumb wob .25 .42 .24 .2 / .75 .42 .24 .2 / .4 .24 .24 .2 / .64 .26 .24 .2 / .5 .5 .24 .2
carrot | .42 .11 lying | .065 .85 .92 | leaf fur line .14 / .2 .5 0 .1 / .2 .5 0 .5 / .2 .5 0 .9
  t round blob .14 .15 .4 .15 1.05 .5 .4 .85 .14 .85
  t*.75 flat line .03 / .3 .25 .32 .55 / .45 .25 .47 .55 / .6 .25 .62 .55
hot dog | .46 .17 | .02 .7 .65 | .85,.62,.32 crumb blob .03 .2 .97 .2 1 .95 0 .95; t round line .36 / .08 .48 .5 .42 .92 .48
  .95,.78,.12 gloss line .07 / .15 .42 .3 .52 .45 .4 .6 .5 .82 .42
pizza | .58 .42 | .12 .65 .9 | .8,.56,.28 crumb oval .5 .5 .5 .5; t crumb oval .5 .5 .43 .43; .7,.16,.1 round strew .2 .8 5 .075
  leaf round strew .2 .8 4 .04
donut | .26 .21 | .93 .45 .9 | .76,.52,.28 round oval .5 .52 .5 .48; t gloss wob .5 .5 .46 .1; .35,.22,.12 dent oval .5 .5 .15 .14
  white flat strew .12 .85 12 .02
cake | .42 .38 | .95 .3 .92 | white gloss oval .5 .95 .5 .06; t*.7 crumb rect .08 .32 .92 .94; white matte rect .08 .58 .92 .66
  t gloss blob .04 .24 .96 .24 .96 .5 .7 .4 .5 .52 .3 .4 .04 .5; .8,.1,.15 round 2oval .2 .2 .06 .08 / .4 .2 .06 .08
chair | .36 .56 | .08 .6 .55 | t*.8 wood line .09 / .12 .02 .16 .98 / .82 .55 .9 .98 / .3 .6 .34 .88 / .7 .55 .7 .85
  t wood poly .1 0 .62 .04 .62 .42 .13 .44; t*1.2 wood poly .1 .52 .66 .47 .97 .56 .32 .64
couch | .86 .42 painted | .57 .35 .5 | brown wood 2line .07 / .1 .9 .1 .98; t cloth blob .06 0 .94 0 .96 .7 .04 .7
  t*.85 cloth rect .1 .62 .9 .92
  t*1.15 cloth 2blob .12 .44 .5 .44 .5 .7 .12 .7; t cloth 2blob 0 .3 .14 .3 .14 .96 0 .96
potted plant | .36 .5 | .32 .65 .45 | t*.7 fur fan 6; t fur fan 5; .68,.36,.22 round poly .22 .66 .78 .66 .68 1 .32 1
bed | .92 .46 | .6 .4 .6 | brown wood rect 0 0 .1 1 / .92 .45 1 1; brown*1.3 wood rect .06 .62 .95 .88
  white cloth blob .07 .4 .95 .42 .96 .72 .07 .72
  t cloth blob .32 .36 .95 .38 .97 .84 .3 .84; white round blob .1 .24 .34 .26 .36 .46 .1 .46
dining table | .86 .42 | .075 .6 .5 | t*.75 wood 2line .08 / .1 .3 .08 .98 / .28 .3 .27 .8; t*1.2 wood poly .16 0 .84 0 1 .3 0 .3
  t*.85 wood rect 0 .29 1 .4
toilet | .36 .5 | .6 .02 .92 | t gloss rect 0 0 .42 .5; t*.92 gloss blob .2 .6 .8 .6 .66 1.02 .24 1.02
  t gloss blob .08 .46 .98 .46 .98 .62 .74 .78 .16 .74; t*.75 dent oval .58 .49 .4 .06
tv | .56 .4 | .6 .1 .12 | black gloss poly .44 .84 .56 .84 .7 1 .3 1; t gloss rect 0 0 1 .86; h.5:.65,.6,.35:.75 screen rect .04 .06 .96 .8
  white sheen poly .04 .06 .6 .06 .3 .8 .04 .8
laptop | .46 .36 | .6 .04 .62 | t gloss rect 0 0 1 .64; h.5:.65,.6,.35:.75 screen rect .04 .06 .96 .58
  white sheen poly .04 .06 .6 .06 .3 .58 .04 .58
  steel metal poly 0 .64 1 .64 1.08 1 -.08 1; black matte keys .04 .68 .96 .88 9 3
mouse | .17 .11 | .6 .05 .25 | t gloss blob 0 .2 .6 0 1.05 .3 1.05 .75 .6 1 0 .85; t*.4 flat line .04 / .66 .06 .66 .94 / .68 .5 .98 .5
remote | .36 .09 lying | .6 .1 .15 | t gloss pad 0 0 1 1 .15; white*.8 matte keys .05 .12 .96 .92 7 2
keyboard | .6 .17 | .6 .05 .3 | t gloss pad 0 0 1 1 .15; white*.8 matte keys .05 .12 .96 .92 12 4
cell phone | .15 .27 lying | .6 .1 .1 | t gloss rect 0 0 1 1; h.5:.65,.6,.35:.75 screen rect .1 .06 .9 .94
  white sheen poly .1 .06 .6 .06 .3 .94 .1 .94
microwave | .5 .29 | .6 .02 .8 | t metal rect 0 .02 1 1; black gloss rect .06 .14 .74 .86; t*.4 matte keys .8 .3 .96 .85 2 4
  steel metal line .035 / .1 .2 .7 .2
oven | .46 .5 | .6 .04 .6 | t metal rect 0 .02 1 1; black gloss rect .06 .34 .92 .86; t*.4 matte 2oval .15 .15 .045 .05 / .38 .15 .045 .05
  steel metal line .035 / .1 .4 .88 .4
toaster | .32 .22 | .02 .6 .7 | t metal rect 0 .02 1 1; .78,.55,.3 crumb 2rect .1 0 .45 .08; black matte rect .88 .3 .96 .6
  t*.5 matte line .05 / .1 .85 .8 .85
sink | .46 .34 | .1 .02 .92 | steel metal line .09 / .5 .42 .5 .08 .66 .05 .68 .2; t gloss blob -.03 .38 1.03 .38 .86 1.04 .14 1.04
  t*.7 dent oval .5 .54 .4 .13
refrigerator | .4 .76 | .55 .05 .82 | t metal rect 0 .02 1 1; t*.4 flat line .03 / 0 .36 1 .36
  t*.55 metal line .06 / .12 .1 .12 .3 / .12 .44 .12 .75
book | .25 .31 lying painted | .99 .65 .55 | .9,.88,.8 fur rect .06 .1 .98 1; t cloth rect 0 0 .93 .94; t*.7 cloth rect 0 0 .12 .94
  .9,.8,.5 flat line .08 / .26 .25 .8 .25 / .36 .4 .7 .4
clock | .25 .25 wall | .08 .6 .4 | t gloss oval .5 .5 .5 .5; white dent oval .5 .5 .41 .41; black flat spokes .05 / .5 .5 .34
  white matte oval .5 .5 .3 .3
  black flat line .04 / .5 .5 .3:.7 .22:.4 / .5 .5 .35:.65 .35:.65
vase | .22 .4 painted | .53 .5 .65 | t gloss blob .3 .3 .7 .3 1.08 .6 .75 1 .25 1 -.08 .6
  leaf matte line .05 / .5 .5 .15 .24 / .5 .5 .4 .24 / .5 .5 .6 .24 / .5 .5 .85 .24
  h.85:1.15,.6,.9 crumb wob .15 .24 .16 .4 / .4 .14 .16 .4 / .62 .19 .16 .4 / .86 .22 .16 .4
scissors | .4 .2 lying | 0 .8 .75 | steel metal poly 0 .22 .6 .5 .55 .62 / 0 .78 .6 .5 .55 .38
  t gloss ring .13 / .82 .24 .16 .2 / .82 .76 .16 .2
  t gloss line .13 / .55 .5 .68 .4 / .55 .5 .68 .6
teddy bear | .32 .4 | .08 .6 .62 | t*.8 fur 2oval .25 .1 .12 .1; t fur 2line .22 / .3 .5 .08 .66 / .35 .8 .16 .92; t fur oval .5 .68 .3 .28
  t fur oval .5 .27 .3 .23; t*1.35 fur oval .5 .35 .14 .1; black gloss oval .38 .23 .035 .03 / .62 .23 .035 .03 / .5 .31 .05 .03
hair drier | .32 .3 | .88 .5 .7 | t*.8 gloss poly .2 .4 .45 .4 .4 1 .22 1; t gloss blob 0 .1 .5 0 1 .12 1 .42 .5 .52 0 .45
  black matte rect .9 .12 1 .42
toothbrush | .42 .07 lying | .5 .7 .8 | t metal line .34 / .4 .5 .97 .5; white fur rect 0 0 .2 .5; t gloss line .2 / .02 .6 .5 .6
"""


# name | where the ground begins (0 top, 1 bottom) | hue saturation value of the main colour | parts
_GROUNDS = """
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
# weight | place | members | guests | how often one comes along | what comes in crowds
# A place belongs to several scenes, with and without the categories of a fold: it must not give the fold away.
_SCENES = """
4 | street | car, bus, truck, bicycle, motorcycle, traffic light, fire hydrant, stop sign, parking meter, bench | person | 0.6 | person
3 | street | backpack, umbrella, handbag, suitcase, skateboard | person | 0.3 |
3 | meadow | horse, sheep, cow, dog, bird | person, train | 0.4 | sheep
3 | meadow | elephant, bear, zebra, giraffe |  | 0 |
2 | coast | boat, bird | person, surfboard | 0.4 |
1.5 | coast | surfboard, frisbee, umbrella |  | 0 |
2 | sky | airplane, kite, kite, bird |  | 0 |
3 | court | frisbee, sports ball, baseball bat, baseball glove, tennis racket, skateboard | person | 0.5 | person
1.5 | snow | skis, snowboard | person | 0.5 |
2 | tabletop | wine glass, cup, fork, knife, spoon, bowl, sandwich, cake, hot dog | bottle, vase | 0.3 |
2.5 | tabletop | banana, apple, orange, broccoli, carrot, pizza, donut, cake, bowl | bottle, cup | 0.25 | apple
3 | room | couch, chair, potted plant | cat, dog, tv, vase, clock | 0.6 |
2 | room | tv, dining table, clock, vase, book | person, cat, chair | 0.3 | book
1.5 | room | bed, teddy bear | person, book, suitcase | 0.4 |
1 | room | tie, handbag, backpack, suitcase |  | 0 |
3 | desk | laptop, mouse, keyboard, cell phone, remote, scissors, book, tv | cup, bottle | 0.3 | book
2 | tiled | refrigerator, oven, microwave, toaster, sink | bottle, bowl, person | 0.3 |
2 | tiled | toilet, sink, hair drier, toothbrush | person, bottle | 0.2 |
"""


THINGS = {name: cells for name, *cells in parse(_THINGS)}
SCENES = list(parse(_SCENES))
_PLACES = {name: cells for name, *cells in parse(_GROUNDS)}


def draw_place(canvas: Canvas, name: str) -> float:
    """Fill the canvas, and return the height (0 top, 1 bottom) where the ground begins."""
    ground, tone, parts = _PLACES[name]
    draw_parts(Pen.whole(canvas), {"t": hsv(*numbers(tone, canvas.rng))}, parts, SPECIALS)
    return float(ground)


def draw_thing(pen: Pen, category: str) -> None:
    """Draw an object of a category into the box of `pen`."""
    size, tone, parts = THINGS[category]
    colour = jittered(pen.rng, hsv(*map(float, tone.split())), 0.5 if "painted" in size else 0.12)
    draw_parts(pen, {"t": colour}, parts, SPECIALS)
