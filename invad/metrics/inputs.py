"""Checks of what `evaluate` is given. Each failure is one line that names the argument, the image and the class."""

from collections.abc import Iterable, Sequence

import numpy as np

from invad.errors import InputError

Stack = np.ndarray | Iterable[np.ndarray]
"""(N, H, W) at once (an array or a memory map), or batches of (n, H, W) in the same order."""


def stack(value: Stack, name: str, kinds: str) -> np.ndarray:
    """One (N, H, W) array of `value`, not copied where it is one already; `kinds`: numpy's dtype kinds accepted."""
    if isinstance(value, (str, bytes)) or not (hasattr(value, "__array__") or isinstance(value, Iterable)):
        raise InputError(
            f"{name}: expected an array (N, H, W) or batches of arrays (n, H, W), got {type(value).__name__}"
        )
    if hasattr(value, "__array__"):
        array = _three_dimensional(value, name, kinds)
    else:
        batches = [_three_dimensional(batch, f"{name}, batch {i}", kinds) for i, batch in enumerate(value)]
        sizes = {batch.shape[1:] for batch in batches}
        if len(sizes) > 1:
            raise InputError(f"{name}: all must have one height and width, got {sorted(sizes)}")
        array = np.concatenate(batches) if batches else np.empty((0, 0, 0))
    if array.size == 0:
        raise InputError(f"{name}: empty, shape {array.shape}; expected at least one image of at least one pixel")
    return array


def _three_dimensional(value: np.ndarray, name: str, kinds: str) -> np.ndarray:
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
    """(N,) class names; the one class "all" when `classes` is None."""
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
    """(N,) bool of labels that are bool, 0 or 1."""
    array = _one_per_image(labels, "labels", n_images, "biuf")
    wrong = np.flatnonzero((array != 0) & (array != 1))
    if wrong.size:
        i = int(wrong[0])
        raise InputError(f"labels: image {i} has {array[i]}; expected 0 (normal) or 1 (anomalous)")
    return array.astype(bool)


def images_with_mask(has_mask: Sequence[bool] | np.ndarray | None, n_images: int) -> np.ndarray:
    """(N,) bool; all True when `has_mask` is None."""
    return np.ones(n_images, dtype=bool) if has_mask is None else _one_per_image(has_mask, "has_mask", n_images, "b")


def scores_of_images(scores: Sequence[float] | np.ndarray, names: np.ndarray) -> np.ndarray:
    """(N,) finite image scores."""
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


def require_finite_maps(maps_nhw: np.ndarray, index: np.ndarray, names: np.ndarray) -> None:
    """Raise for the first map with a NaN or infinite score; `index` (n,) are the maps' positions among all images."""
    if maps_nhw.dtype.kind == "f":
        _require_finite(maps_nhw, "anomaly_maps", "the map", index, names)


def _require_finite(values: np.ndarray, argument: str, what: str, index: np.ndarray, names: np.ndarray) -> None:
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        i = int(index[np.flatnonzero(bad)[0]])
        where = f"{what} of image {i} (class {str(names[i])!r})"
        raise InputError(f"{argument}: {where} holds NaN or infinity; scores must be finite")


def binary_masks(masks_nhw: np.ndarray, index: np.ndarray, name: str) -> np.ndarray:
    """(n, H, W) bool, True where anomalous, of one class's masks.

    Accepted: bool; integers that are only 0 and 1, or only 0 and 255 (anomalous where not 0; one class must not mix 1
    and 255); floating point in [0, 1] (anomalous where above 0.5). `index` (n,): the masks' positions among all images.
    """
    kind = masks_nhw.dtype.kind
    if kind == "b":
        return masks_nhw
    if kind == "f":
        accepted = "floating point values must lie in [0, 1]"
        allowed = (masks_nhw >= 0) & (masks_nhw <= 1)
        anomalous = masks_nhw > 0.5
    else:
        accepted = "integers within a class must be only 0 and 1, or only 0 and 255"
        allowed = (masks_nhw == 0) | (masks_nhw == (255 if masks_nhw.max() == 255 else 1))
        anomalous = masks_nhw != 0
    bad = np.argwhere(~allowed)
    if bad.size:
        image, row, column = (int(i) for i in bad[0])
        found = masks_nhw[image, row, column]
        raise InputError(f"masks: image {int(index[image])} (class {name!r}) holds {found}; {accepted}")
    return anomalous
