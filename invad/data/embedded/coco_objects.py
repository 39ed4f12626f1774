"""The look of each COCO category: one line per category that says which routine draws it, how large and in what colour."""

from collections.abc import Callable
from dataclasses import dataclass, field

from invad.data.embedded import coco_indoors as indoors
from invad.data.embedded import coco_outdoors as outdoors
from invad.data.embedded.coco_outdoors import quadruped
from invad.data.embedded.drawing import Colour, hsv

Drawer = Callable[..., None]


@dataclass(frozen=True)
class Thing:
    """How a category is drawn: routine, usual width and height (in shorter image edges), main colour, options."""

    draw: Drawer
    width: float
    height: float
    colour: Colour
    options: dict[str, float | str | bool] = field(default_factory=dict)


def _t(
    draw: Drawer, width: float, height: float, colour: tuple[float, float, float], **options: float | str | bool
) -> Thing:
    return Thing(draw, width, height, hsv(*colour), options)


# colours as hue, saturation, value
THINGS: dict[str, Thing] = {
    "person": _t(outdoors.person, 0.25, 0.62, (0.0, 0.6, 0.75)),
    "bicycle": _t(outdoors.bike, 0.55, 0.36, (0.55, 0.7, 0.6)),
    "car": _t(outdoors.car, 0.66, 0.29, (0.0, 0.75, 0.7)),
    "motorcycle": _t(outdoors.bike, 0.52, 0.34, (0.03, 0.8, 0.6), engine=True),
    "airplane": _t(outdoors.airplane, 0.78, 0.30, (0.6, 0.6, 0.7)),
    "bus": _t(outdoors.bus, 0.86, 0.42, (0.12, 0.75, 0.85)),
    "train": _t(outdoors.bus, 1.05, 0.36, (0.38, 0.5, 0.5), rail=True),
    "truck": _t(outdoors.truck, 0.80, 0.42, (0.6, 0.7, 0.6)),
    "boat": _t(outdoors.boat, 0.52, 0.50, (0.58, 0.7, 0.45)),
    "traffic light": _t(outdoors.on_pole, 0.13, 0.60, (0.14, 0.6, 0.30), kind="light"),
    "fire hydrant": _t(outdoors.hydrant, 0.20, 0.34, (0.01, 0.85, 0.75)),
    "stop sign": _t(outdoors.on_pole, 0.27, 0.56, (0.0, 0.85, 0.72), kind="stop"),
    "parking meter": _t(outdoors.on_pole, 0.14, 0.50, (0.6, 0.1, 0.5), kind="meter"),
    "bench": _t(outdoors.bench, 0.58, 0.30, (0.07, 0.6, 0.5)),
    "bird": _t(outdoors.bird, 0.26, 0.22, (0.58, 0.3, 0.55)),
    "cat": _t(quadruped, 0.40, 0.28, (0.07, 0.65, 0.80), leg=0.34, neck=0.22, head=0.19, girth=0.34, part="flat"),
    "dog": _t(quadruped, 0.46, 0.36, (0.08, 0.25, 0.42), leg=0.40, neck=0.22, head=0.15, girth=0.32),
    "horse": _t(quadruped, 0.66, 0.56, (0.05, 0.6, 0.42), leg=0.46, neck=0.38, head=0.11, girth=0.30, part="mane"),
    "sheep": _t(quadruped, 0.46, 0.34, (0.12, 0.10, 0.86), leg=0.28, neck=0.12, head=0.14, girth=0.52, part="wool"),
    "cow": _t(quadruped, 0.64, 0.44, (0.08, 0.12, 0.86), leg=0.36, neck=0.12, head=0.14, girth=0.44, pattern="patches", part="horns"),
    "elephant": _t(quadruped, 0.80, 0.60, (0.62, 0.08, 0.50), leg=0.36, neck=0.12, head=0.17, girth=0.52, part="trunk"),
    "bear": _t(quadruped, 0.62, 0.44, (0.07, 0.5, 0.30), leg=0.30, neck=0.12, head=0.16, girth=0.50, part="flat"),
    "zebra": _t(quadruped, 0.62, 0.50, (0.1, 0.05, 0.90), leg=0.42, neck=0.32, head=0.12, girth=0.34, pattern="stripes", part="mane"),
    "giraffe": _t(quadruped, 0.46, 0.80, (0.11, 0.45, 0.85), leg=0.44, neck=0.60, head=0.06, girth=0.20, pattern="spots", part="horns"),
    "backpack": _t(outdoors.bag, 0.28, 0.36, (0.6, 0.6, 0.45), kind="backpack"),
    "umbrella": _t(outdoors.umbrella, 0.52, 0.50, (0.95, 0.75, 0.7)),
    "handbag": _t(outdoors.bag, 0.30, 0.30, (0.04, 0.65, 0.5), kind="handbag"),
    "tie": _t(outdoors.tie, 0.11, 0.42, (0.62, 0.7, 0.4)),
    "suitcase": _t(outdoors.bag, 0.34, 0.46, (0.48, 0.6, 0.5), kind="suitcase"),
    "frisbee": _t(outdoors.disc, 0.24, 0.13, (0.95, 0.7, 0.9)),
    "skis": _t(outdoors.board, 0.72, 0.14, (0.02, 0.75, 0.8), pair=True),
    "snowboard": _t(outdoors.board, 0.60, 0.18, (0.78, 0.6, 0.6)),
    "sports ball": _t(outdoors.ball, 0.22, 0.22, (0.08, 0.65, 0.88)),
    "kite": _t(outdoors.kite, 0.36, 0.50, (0.97, 0.8, 0.85)),
    "baseball bat": _t(outdoors.bat, 0.58, 0.10, (0.09, 0.55, 0.72)),
    "baseball glove": _t(outdoors.glove, 0.27, 0.30, (0.06, 0.7, 0.5)),
    "skateboard": _t(outdoors.board, 0.52, 0.15, (0.45, 0.6, 0.5), wheels=True),
    "surfboard": _t(outdoors.board, 0.80, 0.20, (0.14, 0.5, 0.92)),
    "tennis racket": _t(outdoors.racket, 0.26, 0.54, (0.7, 0.6, 0.55)),
    "bottle": _t(indoors.vessel, 0.14, 0.46, (0.38, 0.6, 0.35), kind="bottle"),
    "wine glass": _t(indoors.vessel, 0.20, 0.42, (0.97, 0.8, 0.4), kind="wine"),
    "cup": _t(indoors.vessel, 0.28, 0.25, (0.56, 0.4, 0.75), kind="cup"),
    "fork": _t(indoors.cutlery, 0.46, 0.075, (0.6, 0.03, 0.8), kind="fork"),
    "knife": _t(indoors.cutlery, 0.50, 0.065, (0.6, 0.03, 0.85), kind="knife"),
    "spoon": _t(indoors.cutlery, 0.42, 0.10, (0.12, 0.1, 0.8), kind="spoon"),
    "bowl": _t(indoors.vessel, 0.44, 0.26, (0.1, 0.15, 0.85), kind="bowl"),
    "banana": _t(indoors.long_food, 0.42, 0.22, (0.145, 0.78, 0.95), kind="banana"),
    "apple": _t(indoors.fruit, 0.20, 0.21, (0.98, 0.8, 0.75)),
    "sandwich": _t(indoors.sandwich, 0.42, 0.26, (0.09, 0.5, 0.82)),
    "orange": _t(indoors.fruit, 0.20, 0.20, (0.08, 0.88, 0.95)),
    "broccoli": _t(indoors.broccoli, 0.26, 0.27, (0.3, 0.65, 0.42)),
    "carrot": _t(indoors.long_food, 0.42, 0.11, (0.065, 0.85, 0.92), kind="carrot"),
    "hot dog": _t(indoors.long_food, 0.46, 0.17, (0.02, 0.7, 0.65), kind="hot dog"),
    "pizza": _t(indoors.pizza, 0.58, 0.42, (0.12, 0.65, 0.90)),
    "donut": _t(indoors.donut, 0.26, 0.21, (0.93, 0.45, 0.9)),
    "cake": _t(indoors.cake, 0.42, 0.38, (0.95, 0.3, 0.92)),
    "chair": _t(indoors.chair, 0.36, 0.56, (0.08, 0.6, 0.55)),
    "couch": _t(indoors.couch, 0.86, 0.42, (0.57, 0.35, 0.5)),
    "potted plant": _t(indoors.plant, 0.36, 0.50, (0.32, 0.65, 0.45)),
    "bed": _t(indoors.bed, 0.92, 0.46, (0.6, 0.4, 0.6)),
    "dining table": _t(indoors.table, 0.86, 0.42, (0.075, 0.6, 0.5)),
    "toilet": _t(indoors.toilet, 0.36, 0.50, (0.6, 0.02, 0.92)),
    "tv": _t(indoors.display, 0.56, 0.40, (0.6, 0.1, 0.12), kind="tv"),
    "laptop": _t(indoors.display, 0.46, 0.36, (0.6, 0.04, 0.62), kind="laptop"),
    "mouse": _t(indoors.mouse, 0.17, 0.11, (0.6, 0.05, 0.25)),
    "remote": _t(indoors.keypad, 0.36, 0.09, (0.6, 0.1, 0.15), columns=7, rows=2),
    "keyboard": _t(indoors.keypad, 0.60, 0.17, (0.6, 0.05, 0.30), columns=12, rows=4),
    "cell phone": _t(indoors.display, 0.15, 0.27, (0.6, 0.1, 0.10), kind="phone"),
    "microwave": _t(indoors.box_appliance, 0.50, 0.29, (0.6, 0.02, 0.80), kind="microwave"),
    "oven": _t(indoors.box_appliance, 0.46, 0.50, (0.6, 0.04, 0.60), kind="oven"),
    "toaster": _t(indoors.box_appliance, 0.32, 0.22, (0.02, 0.6, 0.7), kind="toaster"),
    "sink": _t(indoors.sink, 0.46, 0.34, (0.1, 0.02, 0.92)),
    "refrigerator": _t(indoors.box_appliance, 0.40, 0.76, (0.55, 0.05, 0.82), kind="refrigerator"),
    "book": _t(indoors.book, 0.25, 0.31, (0.99, 0.65, 0.55)),
    "clock": _t(indoors.clock, 0.25, 0.25, (0.08, 0.6, 0.4)),
    "vase": _t(indoors.vessel, 0.22, 0.40, (0.53, 0.5, 0.65), kind="vase"),
    "scissors": _t(indoors.scissors, 0.40, 0.20, (0.0, 0.8, 0.75)),
    "teddy bear": _t(indoors.teddy, 0.32, 0.40, (0.08, 0.6, 0.62)),
    "hair drier": _t(indoors.drier, 0.32, 0.30, (0.88, 0.5, 0.7)),
    "toothbrush": _t(indoors.cutlery, 0.42, 0.07, (0.5, 0.7, 0.8), kind="toothbrush"),
}  # fmt: skip
