"""Scenes of the generated COCO: where they play, what they show, and how it is arranged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from invad.data.embedded.coco_objects import THINGS
from invad.data.embedded.coco_places import draw_place
from invad.data.embedded.drawing import Canvas, Pen, Rng, image_rng, oval

Mask = NDArray[np.bool_]

MIN_VISIBLE_PIXELS = 24  # a smaller visible remainder of an object is not annotated
EMPTY_EVERY, EMPTY_OFFSET = 20, 3  # image 3, 23, 43, ... holds no object, so that some have no annotations
CROWD_PROBABILITY = 0.3
LARGE_PROBABILITY = 0.3  # of a scene of one or two things

# weight | place | members | guests | how often one comes along | what comes in crowds
# A place belongs to several scenes, with and without the categories of a fold: it must not give the fold away.
_TABLE = """
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


@dataclass(frozen=True)
class Scene:
    """A theme: where it plays, what it shows, which guest may come along and how often, what comes in crowds (or nothing)."""

    place: str
    members: Sequence[str]
    guests: Sequence[str]
    guest_probability: float
    crowd: str


@dataclass
class Instance:
    """One annotated object, or a crowd of one category: its visible pixels, (height, width) bool."""

    category: str
    mask: Mask
    crowd: bool = False


_ROWS = [[cell.strip() for cell in line.split("|")] for line in _TABLE.strip().splitlines()]
_WEIGHTS = np.asarray([float(row[0]) for row in _ROWS])
SCENES = [
    Scene(place, members.split(", "), guests.split(", "), float(probability), crowd)
    for _, place, members, guests, probability, crowd in _ROWS
]


def draw_image(seed: int, phase: str, index: int, image_size: int) -> tuple[Image.Image, list[Instance]]:
    """One scene and its instances, farthest first."""
    rng = image_rng(seed, "coco", "scene", phase, index)
    edges = (image_size, round(image_size * 0.75))
    width, height = edges if rng.uniform() < 0.65 else edges[::-1]
    canvas = Canvas(rng, width, height, light_angle=rng.uniform(-2.6, -0.55))
    scene = SCENES[rng.choice(len(SCENES), p=_WEIGHTS / _WEIGHTS.sum())]
    ground = draw_place(canvas, scene.place)
    instances: list[Instance] = []
    if index % EMPTY_EVERY != EMPTY_OFFSET:
        if scene.crowd and rng.uniform() < CROWD_PROBABILITY:
            _draw_crowd(canvas, scene.crowd, ground)
            _record(instances, Instance(scene.crowd, canvas.covered(), crowd=True))
        for category, x, baseline, scale in _arrange(rng, scene, ground):
            canvas.start_coverage()
            _draw_thing(canvas, category, x, baseline, scale)
            _record(instances, Instance(category, canvas.covered()))
    picture = canvas.photograph(noise_level=0.014, exposure=1 + rng.normal(0, 0.06), vignette=0.25)
    return picture, [instance for instance in instances if instance.mask.sum() >= MIN_VISIBLE_PIXELS]


def _record(instances: list[Instance], new: Instance) -> None:
    """Add an instance that has just been drawn: it hides what lies under it."""
    for earlier in instances:
        earlier.mask = earlier.mask & ~new.mask
    instances.append(new)


def _arrange(rng: Rng, scene: Scene, ground: float) -> list[tuple[str, float, float, float]]:
    """Category, x, baseline (in image sizes) and scale of one to four objects, farthest first."""
    count = int(rng.choice([1, 2, 3, 4], p=[0.3, 0.35, 0.22, 0.13]))
    names = [str(name) for name in rng.choice(scene.members, count)]
    if rng.uniform() < scene.guest_probability:
        names[-1] = str(rng.choice(scene.guests))
    places = 0.12 + 0.76 * (rng.permutation(count) + 0.5 + rng.uniform(-0.25, 0.25, count)) / count
    baselines = np.sort(rng.uniform(ground + 0.1, 0.97, count))
    scales = (0.8 + 0.5 * (baselines - ground) / (1 - ground)) * rng.uniform(0.85, 1.15, count)
    if count <= 2 and rng.uniform() < LARGE_PROBABILITY:
        scales[-1], baselines[-1] = scales[-1] * 1.4, min(0.98, baselines[-1] + 0.1)
    return list(zip(names, places.tolist(), baselines.tolist(), scales.tolist(), strict=True))


def _draw_thing(canvas: Canvas, category: str, x: float, baseline: float, scale: float) -> None:
    rng, thing = canvas.rng, THINGS[category]
    unit = min(canvas.width, canvas.height) * scale
    width, height = unit * thing.width * rng.uniform(0.92, 1.08), unit * thing.height * rng.uniform(0.92, 1.08)
    width, height = np.asarray([width, height]) * min(1.0, 1.05 * baseline * canvas.height / height)  # no heads cut off
    lying = "lying" in thing.manner
    angle = rng.uniform(-0.5, 0.5) if lying else rng.normal(0, 0.02)
    if "wall" in thing.manner:
        baseline = rng.uniform(0.3, 0.42)
    elif "flying" in thing.manner:
        baseline, angle = baseline - rng.uniform(0.1, 0.35), rng.normal(0, 0.15)
    base_x, base_y = x * canvas.width, baseline * canvas.height
    if not thing.manner & {"wall", "flying"}:
        reach = height * 0.5 if lying else max(0.03 * canvas.height, 0.07 * width)
        centre_y = base_y - height * 0.4 if lying else base_y - 0.01 * height
        shift = -canvas.light[0] * 0.05 * width
        canvas.shadow(oval(base_x + shift, centre_y + 0.05 * height, 0.52 * width, reach), 0.25 * reach, 0.5)
    thing.draw(Pen(canvas, (base_x, base_y - height / 2), (width, height), angle=angle, flip=bool(rng.integers(0, 2))))


def _draw_crowd(canvas: Canvas, category: str, ground: float) -> None:
    """Several small ones next to each other."""
    rng = canvas.rng
    canvas.start_coverage()
    left, count, scale = rng.uniform(0.08, 0.45), int(rng.integers(5, 9)), rng.uniform(0.4, 0.55)
    spacing = 0.8 * scale * THINGS[category].width * min(canvas.width, canvas.height) / canvas.width
    for depth, number in zip(np.sort(rng.uniform(0.04, 0.10, count)).tolist(), rng.permutation(count), strict=True):
        _draw_thing(canvas, category, left + spacing * float(number), ground + depth, scale)
