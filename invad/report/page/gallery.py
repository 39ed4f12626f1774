"""The gallery of the page: test images with anomaly map, mask outline and outcome, small enough to travel inside the page."""

import base64
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from invad.report.pictures import empty_reason, heat_layer, image_kind, image_panel, map_scale, outline_layer
from invad.report.results import Result, TestImages
from invad.report.selection import GALLERY_SIDE, outcome

OUTCOMES = ("true positive", "false positive", "false negative", "true negative", "undecided")  # of `selection.outcome`
MAP_QUALITY, PICTURE_QUALITY = 85, 82
OUTLINE_COLOURS = 8  # line, rim and their soft edges


@dataclass(frozen=True)
class GalleryImage:
    """One test image of the gallery.

    kind: what the data set says of it. truth: what the outline shows, or why there is none. picture, heat: WebP files of the image and
    of the colours of its map, transparent below the threshold; outline: a PNG, transparent but for the outline of the mask, None
    without anomalous pixels.
    """

    name: str
    class_name: str
    kind: str
    truth: str
    score: float
    outcome: str
    width: int
    height: int
    picture: bytes
    heat: bytes
    outline: bytes | None


@dataclass(frozen=True)
class Gallery:
    """The images of one result that can be looked at, beside the counts of all its test images.

    Attributes:
        images: In the order of the test images.
        classes: All of them, in alphabetical order.
        thresholds: Class -> calibrated threshold on the image score; a class may have none.
        scales: Class -> the map values at the two ends of the colours.
        totals: Class -> outcome -> number of all test images.
        listed: Positions in `images` of those that are shown without scripts and in print as well: of each class the anomalous image
            with the highest and with the lowest score and the normal one with the highest, among `images`.
    """

    images: tuple[GalleryImage, ...]
    classes: tuple[str, ...]
    thresholds: Mapping[str, float]
    scales: Mapping[str, tuple[float, float]]
    totals: Mapping[str, Mapping[str, int]]
    listed: tuple[int, ...]

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The outcomes that occur among all test images, in the order of `OUTCOMES`."""
        return tuple(name for name in OUTCOMES if any(counts.get(name) for counts in self.totals.values()))

    @property
    def total(self) -> int:
        """Number of all test images."""
        return sum(sum(counts.values()) for counts in self.totals.values())

    def shown(self, class_name: str) -> int:
        """Number of images of a class that can be looked at."""
        return sum(image.class_name == class_name for image in self.images)

    def by_class(self) -> list[tuple[str, list[tuple[int, GalleryImage]]]]:
        """The listed images with their positions, class by class."""
        members = [(index, self.images[index]) for index in self.listed]
        groups = [(name, [item for item in members if item[1].class_name == name]) for name in self.classes]
        return [(name, group) for name, group in groups if group]

    def json(self) -> str:
        """What the script of the page needs, as JSON that can stand inside a script element. The pictures of listed images are not
        repeated: they stand in the page already.
        """
        content = {
            "classes": [
                {
                    "name": name,
                    "threshold": self.thresholds.get(name),
                    "range": [f"{value:.4g}" for value in self.scales[name]],
                    "totals": [self.totals[name].get(outcome, 0) for outcome in OUTCOMES],
                }
                for name in self.classes
            ],
            "outcomes": OUTCOMES,
            "images": [self._record(index, image) for index, image in enumerate(self.images)],
        }
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")

    def _record(self, index: int, image: GalleryImage) -> dict[str, object]:
        record: dict[str, object] = {
            "name": image.name,
            "class": self.classes.index(image.class_name),
            "kind": image.kind,
            "truth": image.truth,
            "score": image.score,
            "outcome": OUTCOMES.index(image.outcome),
            "size": [image.width, image.height],
        }
        if index not in self.listed:
            record["picture"], record["map"] = _base64(image.picture), _base64(image.heat)
            if image.outline is not None:
                record["outline"] = _base64(image.outline)
        return record


def build_gallery(result: Result) -> Gallery | None:
    """The gallery of the images in `result.tests.pictures`; None where there are none."""
    tests = result.tests
    if tests is None or not tests.pictures:
        return None
    thresholds = result.thresholds
    outcomes = [
        outcome(int(label), float(score), thresholds.get(name))
        for label, score, name in zip(tests.labels, tests.image_scores, tests.classes, strict=True)
    ]
    classes = tuple(sorted(set(tests.classes)))
    positions = sorted(tests.pictures)
    scales = {name: map_scale(result, tests, tests.classes.index(name)) for name in classes}
    pairs = Counter(zip(tests.classes, outcomes, strict=True))
    return Gallery(
        images=tuple(_gallery_image(result, tests, position, outcomes[position]) for position in positions),
        classes=classes,
        thresholds={name: thresholds[name] for name in classes if name in thresholds},
        scales={name: (scale.low, scale.high) for name, scale in scales.items()},
        totals={name: {kind: pairs[name, kind] for kind in OUTCOMES if pairs[name, kind]} for name in classes},
        listed=_listed(tests, positions, classes),
    )


def _listed(tests: TestImages, positions: Sequence[int], classes: Sequence[str]) -> tuple[int, ...]:
    chosen: list[int] = []
    ranked = sorted(positions, key=lambda position: (-float(tests.image_scores[position]), position))
    for name in classes:
        members = [position for position in ranked if tests.classes[position] == name]
        anomalous, normal = ([p for p in members if tests.labels[p] == label] for label in (1, 0))
        chosen += dict.fromkeys([*anomalous[:1], *anomalous[-1:], *normal[:1]])
    return tuple(positions.index(position) for position in chosen)


def _gallery_image(result: Result, tests: TestImages, position: int, decided: str) -> GalleryImage:
    shown = tests.pictures[position]
    side = min(GALLERY_SIDE, len(shown.mask))
    picture = image_panel(shown, side)
    has_region = bool(shown.mask.any())
    return GalleryImage(
        name=tests.names[position],
        class_name=tests.classes[position],
        kind=image_kind(tests, position),
        truth="anomalous region outlined" if has_region else empty_reason(tests, position),
        score=float(tests.image_scores[position]),
        outcome=decided,
        width=picture.width,
        height=picture.height,
        picture=webp_bytes(picture, PICTURE_QUALITY),
        heat=webp_bytes(heat_layer(result, tests, position), MAP_QUALITY),
        outline=_outline_png(shown.mask, 2 * side) if has_region else None,
    )


def _outline_png(mask: NDArray[np.bool_], side: int) -> bytes:
    """The outline of the mask, `side` pixels high: twice the picture, so that it stays sharp in the viewer. mask: bool (H, W)."""
    buffer = io.BytesIO()
    picture = outline_layer(mask, side).quantize(OUTLINE_COLOURS, method=Image.Quantize.FASTOCTREE)
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def webp_bytes(image: Image.Image, quality: int) -> bytes:
    """The image as WebP, about a tenth of its size as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=quality, method=4)
    return buffer.getvalue()


def data_uri(content: bytes, media_type: str) -> str:
    """Content as a URI that a page can carry inside itself."""
    return f"data:{media_type};base64,{_base64(content)}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
