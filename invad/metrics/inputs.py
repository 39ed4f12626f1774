"""Checks of what `evaluate` is given. Each failure is one line that names the argument, the image and the class."""

from collections.abc import Iterable, Sequence
from typing import TypeGuard

import numpy as np

from invad.errors import InputError

_INTEGERS = "integers within a class must be only 0 and 1, or only 0 and 255"

Stack = np.ndarray | Iterable[np.ndarray]
"""(N, H, W) at once (an array or a memory map), or batches of (n, H, W) in the same order."""


def is_array(value: Stack, name: str) -> TypeGuard[np.ndarray]:
    """Whether `value` is all images at once; False for batches, and `InputError` for anything else."""
    if isinstance(value, (str, bytes)) or not (hasattr(value, "__array__") or isinstance(value, Iterable)):
        raise InputError(
            f"{name}: expected an array (N, H, W) or batches of arrays (n, H, W), got {type(value).__name__}"
        )
    return is_at_once(value)


def is_at_once(value: Stack) -> TypeGuard[np.ndarray]:
    """Whether `value` is one array, or what numpy makes one of."""
    return hasattr(value, "__array__")


KINDS = {"anomaly_maps": "fiu", "masks": "biuf"}
"""Which kinds of numbers, as numpy names them, each may be of."""


def maps_and_masks(maps: np.ndarray, masks: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Both as arrays (N, H, W) of one shape, not copied, and else `InputError`; there may be no masks."""
    maps = three_dimensional(maps, "anomaly_maps", KINDS["anomaly_maps"])
    require_images(maps.shape)
    if masks is None:
        return maps, None
    masks = three_dimensional(masks, "masks", KINDS["masks"])
    if maps.shape != masks.shape:
        raise InputError(f"masks: shape {masks.shape} differs from that of anomaly_maps, {maps.shape}")
    return maps, masks


def require_images(shape: tuple[int, ...]) -> None:
    """Raise `InputError` unless maps of `shape` hold a pixel."""
    if 0 in shape:
        raise InputError(f"anomaly_maps: empty, shape {shape}; expected at least one image of at least one pixel")


def three_dimensional(value: np.ndarray, name: str, kinds: str) -> np.ndarray:
    """`value` as (n, H, W), not copied; `InputError`, which calls it `name`, for another shape or other `kinds` of numbers."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        raise InputError(f"{name}: not an array; expected shape (n, H, W)") from None
    if array.ndim != 3:
        raise InputError(f"{name}: expected three dimensions (n, H, W), got shape {array.shape}")
    if array.dtype.kind not in kinds:
        raise InputError(f"{name}: unexpected type {array.dtype}; expected {_kind_names(kinds)}")
    return array


def _kind_names(kinds: str) -> str:
    names = {"b": "bool", "i": "integers", "u": "unsigned integers", "f": "floating point"}
    return ", ".join(names[kind] for kind in kinds)


def class_names(classes: Sequence[str] | np.ndarray | None, n_images: int) -> np.ndarray:
    """(N,) class names; the one class "all" when `classes` is None. `InputError` unless there is a name for each image."""
    if classes is None:
        return np.full(n_images, "all")
    if isinstance(classes, (str, bytes)):
        raise InputError(f"classes: expected one class name for each of the {n_images} images, got a single text")
    names = list(classes)
    if len(names) != n_images:
        raise InputError(f"classes: expected {n_images} names, one for each image, got {len(names)}")
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise InputError(f"classes: the name of image {i} must be a text that is not empty, got {name!r}")
    return np.array(names)


def image_labels(labels: Sequence[int] | np.ndarray, n_images: int) -> np.ndarray:
    """(N,) bool of labels that are bool, 0 or 1; `InputError` for others, or another number of them."""
    array = _one_per_image(labels, "labels", n_images, "biuf")
    wrong = np.flatnonzero((array != 0) & (array != 1))
    if wrong.size:
        i = int(wrong[0])
        raise InputError(f"labels: image {i} has {array[i]}; expected 0 (normal) or 1 (anomalous)")
    return array.astype(bool)


def images_with_mask(has_mask: Sequence[bool] | np.ndarray, n_images: int) -> np.ndarray:
    """`has_mask` as an array; `InputError` unless it is bool (N,)."""
    return _one_per_image(has_mask, "has_mask", n_images, "b")


def scores_of_images(scores: Sequence[float] | np.ndarray, names: np.ndarray) -> np.ndarray:
    """(N,) image scores; `InputError` unless all are finite."""
    array = _one_per_image(scores, "image_scores", names.size, "fiu")
    _require_finite(array, "image_scores", "the score", np.arange(names.size), names)
    return array


def _one_per_image(values: Sequence[float] | np.ndarray, name: str, n_images: int, kinds: str) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError(f"{name}: expected {n_images} values, one for each image") from None
    if array.shape != (n_images,):
        raise InputError(f"{name}: expected {n_images} values, one for each image, got shape {array.shape}")
    if array.dtype.kind not in kinds:
        raise InputError(f"{name}: unexpected type {array.dtype}; expected {_kind_names(kinds)}")
    return array


def require_finite_maps(lowest: np.ndarray, highest: np.ndarray, index: np.ndarray, names: np.ndarray) -> None:
    """Raise `InputError` for the first map with a NaN or infinite score.

    `lowest`, `highest` (n,): the extreme scores of each map; `index` (n,): the maps' positions among all images; `names` (n,).
    """
    _require_finite(np.stack((lowest, highest), axis=1), "anomaly_maps", "the map", index, names)


def _require_finite(values: np.ndarray, argument: str, what: str, index: np.ndarray, names: np.ndarray) -> None:
    """`values` (n,) or (n, k); `index` (n,): positions among all images; `names` (n,)."""
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        where = f"{what} of image {int(index[i])} (class {str(names[i])!r})"
        raise InputError(f"{argument}: {where} holds NaN or infinity; scores must be finite")


def binary_masks(masks_nhw: np.ndarray, index: np.ndarray, name: str) -> tuple[np.ndarray, frozenset[int]]:
    """The masks (n, H, W) as bool, True where anomalous, and the integers that stand for anomalous in them: 1, 255 or none.

    Accepted: bool; integers that are only 0 and 1, or only 0 and 255 (anomalous where not 0; one class must not mix 1
    and 255); floating point in [0, 1] (anomalous where above 0.5). Anything else is an `InputError`. `index` (n,): the masks'
    positions among all images.
    """
    kind = masks_nhw.dtype.kind
    if kind == "b":
        return masks_nhw, frozenset()
    values = frozenset()
    if kind == "f":
        accepted = "floating point values must lie in [0, 1]"
        allowed = (masks_nhw >= 0) & (masks_nhw <= 1)
        anomalous = masks_nhw > 0.5
    else:
        accepted = _INTEGERS
        highest = int(masks_nhw.max(initial=0))
        values = frozenset({highest} - {0})
        allowed = (masks_nhw == 0) | (masks_nhw == (255 if highest == 255 else 1))
        anomalous = masks_nhw != 0
    if not allowed.all():
        image, row, column = (int(i) for i in np.argwhere(~allowed)[0])
        found = masks_nhw[image, row, column]
        raise InputError(f"masks: image {int(index[image])} (class {name!r}) holds {found}; {accepted}")
    return anomalous, values


def one_mask_value(values: frozenset[int], name: str) -> None:
    """Raise `InputError` when the integer masks of a class have two `values` that stand for anomalous, 1 and 255."""
    if len(values) > 1:
        raise InputError(f"masks: class {name!r} has images with 1 and images with 255; {_INTEGERS}")
