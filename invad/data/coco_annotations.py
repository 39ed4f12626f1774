"""COCO instance annotation files: read the few fields that a benchmark needs, and draw masks from the segmentations.

`instances_train2017.json` has 448 MB, nearly all of it polygons: `Annotation` skips them, `Instance` keeps them as JSON text that is
decoded when a mask is drawn. Everything in a file is checked before it is used: pycocotools is C code that trusts what it is given.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import msgspec
import numpy as np
from pycocotools import mask as coco_mask

from invad.config.constants import COCO_CATEGORIES
from invad.data.images import MAX_PIXELS
from invad.errors import InputError

_MAX_OUTLINE = 1_000_000  # pixels; pycocotools takes some 80 bytes for each
# No path, no hidden file, nothing that a file system could refuse.
FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}\Z")]
Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_PIXELS)]
Polygon = Annotated[list[float], msgspec.Meta(min_length=6)]  # x and y of its points


class CocoImage(msgspec.Struct, frozen=True, gc=False):
    """One image: `file_name` is a plain file name, `width` and `height` are in pixels."""

    id: int
    file_name: FileName
    width: Side
    height: Side

    def __post_init__(self) -> None:
        if self.width * self.height > MAX_PIXELS:
            raise ValueError(f"image {self.id} has more than {MAX_PIXELS} pixels")

    @property
    def stem(self) -> str:
        """The file name without its ending; a mask is named by it."""
        return self.file_name.rpartition(".")[0] or self.file_name


class Annotation(msgspec.Struct, frozen=True, gc=False):
    """That an image shows an object of a category."""

    id: int
    image_id: int
    category_id: int


class Instance(Annotation, frozen=True, gc=False):
    """An annotation with its region, as JSON text: polygons, or uncompressed run lengths (crowd regions)."""

    segmentation: msgspec.Raw


class _Category(msgspec.Struct, frozen=True, gc=False):
    id: int
    name: str


class _RunLengths(msgspec.Struct, frozen=True, gc=False):
    size: tuple[int, int]
    counts: list[Annotated[int, msgspec.Meta(ge=0)]]


Kind = TypeVar("Kind", bound=Annotation)


class _Content(msgspec.Struct, Generic[Kind], frozen=True, gc=False):
    images: list[CocoImage]
    annotations: list[Kind]
    categories: list[_Category]


@dataclass(frozen=True)
class AnnotationFile(Generic[Kind]):
    """One `instances_*.json`: its images by id, the annotations of each image that has any, and the category names by id."""

    path: Path
    images: Mapping[int, CocoImage]
    of_image: Mapping[int, Sequence[Kind]]
    categories: Mapping[int, str]

    def annotated(self) -> Iterator[tuple[CocoImage, Sequence[Kind]]]:
        """Yield the images that have an annotation, by id, with their annotations in the file's order."""
        for image_id in sorted(self.of_image):
            yield self.images[image_id], self.of_image[image_id]


def read_annotations(path: Path, kind: type[Kind]) -> AnnotationFile[Kind]:
    """Read an annotation file, keeping of each annotation what `kind` (`Annotation` or `Instance`) has.

    `InputError`: it is missing or no COCO instance annotation file, something is defined twice, or referred to and not defined.
    """
    try:
        content = msgspec.json.decode(path.read_bytes(), type=_Content[kind])
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # msgspec's errors and UnicodeDecodeError are ValueErrors
        raise InputError(f"{path}: not a COCO instance annotation file ({error})") from None
    categories = {category.id: category.name for category in content.categories}
    if not len(categories) == len(content.categories) == COCO_CATEGORIES:
        raise InputError(f"{path}: has {len(categories)} categories, COCO 2017 has {COCO_CATEGORIES}")
    images: dict[int, CocoImage] = {}
    stems: dict[str, int] = {}
    for image in content.images:
        other = stems.setdefault(image.stem, image.id)
        if image.id in images or other != image.id:
            same = "the id, or apart from the ending the file_name,"
            raise InputError(f"{path}: image {image.id} has {same} of image {other}")
        images[image.id] = image
    of_image: dict[int, list[Kind]] = {}
    for annotation in content.annotations:
        if annotation.image_id not in images or annotation.category_id not in categories:
            unknown = f"the unknown image {annotation.image_id} or category {annotation.category_id}"
            raise InputError(f"{path}: annotation {annotation.id} refers to {unknown}")
        of_image.setdefault(annotation.image_id, []).append(annotation)
    return AnnotationFile(path, images, of_image, categories)


def union_mask(instances: Iterable[Instance], height: int, width: int, path: Path) -> np.ndarray:
    """Return the union of the instances as bool (height, width), by pycocotools' own rasteriser.

    Polygons are cut off at the image's border. A segmentation without polygons (COCO 2017 has none) contributes nothing. `InputError`
    names `path` and an annotation whose segmentation is malformed or does not fit the image's size.
    """
    mask = np.zeros((height, width), dtype=bool)
    for instance in instances:
        try:
            mask |= _pixels(instance.segmentation, height, width)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: annotation {instance.id}: unreadable segmentation ({error})") from None
    return mask


def _pixels(segmentation: msgspec.Raw, height: int, width: int) -> np.ndarray:
    """Return the pixels of a segmentation as bool (height, width); `ValueError` says what is wrong with it."""
    parts = msgspec.json.decode(segmentation, type=list[Polygon] | _RunLengths)
    if isinstance(parts, _RunLengths):
        if parts.size != (height, width) or sum(parts.counts) != height * width:
            raise ValueError(f"run lengths of size {list(parts.size)} that do not fill the image, {[height, width]}")
        return np.repeat(np.arange(len(parts.counts)) % 2 > 0, parts.counts).reshape((height, width), order="F")
    for polygon in parts:
        # Measured from the upper left corner, so that points far outside count as well.
        outline = sum(abs(end - start) for start, end in zip([0.0, 0.0, *polygon[:-2]], polygon, strict=True))
        if len(polygon) % 2 or outline > _MAX_OUTLINE:
            raise ValueError(f"a polygon of {len(polygon)} numbers, or of an outline longer than {_MAX_OUTLINE} pixels")
    if not parts:
        return np.zeros((height, width), dtype=bool)
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, height, width))) > 0
