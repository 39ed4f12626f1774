"""Label maps: which piece of the object a pixel belongs to, from files of the user, by a recipe, or one piece for the whole image.

A label map is an integer array (H, W) of the anomaly map's size; its values 0 to L - 1 are segments, `NO_SEGMENT` belongs to none.
"""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from invad.config import SupervisedConfig
from invad.data.images import decoded_mask, read_image
from invad.data.split_table import Split, SplitRow
from invad.errors import InputError

NO_SEGMENT = 255
MOST_SEGMENTS = 64
BORDER = 0.03  # of the side: pixels that show the background
LEAST_AREA = 0.005  # of the image: a component of the object
COVERED = (0.02, 0.98)  # of the image: what an object may take, and a texture does not
BACKGROUND, OBJECT = 0, 1
SUFFIXES = (".png", ".npy")

LabelMaps = Callable[[SplitRow], np.ndarray]


def label_maps(config: SupervisedConfig, split: Split, size: int) -> LabelMaps:
    """Return what gives the label map (size, size) of an image of `split`; `InputError`, of that: its file is missing or no label map."""
    if config.segments == "folder":
        folder = Path(config.folder or "")
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder of label maps")
        return lambda row: read_label_map(find_label_map(folder, row), size)
    if config.segments == "foreground":
        return lambda row: foreground(read_image(split.image_path(row), size, split.reading))
    always = vad_parts(size) if config.segments == "vad" else np.zeros((size, size), np.uint8)
    return lambda _row: always


def find_label_map(folder: Path, row: SplitRow) -> Path:
    """Return the file of an image's label map; `InputError` where there is none.

    The first that is there: the image's own path below `folder`, `<class>/<good or bad>/<name>`, `<class>/<name>`, and for parts that are
    always aligned one map of the class, `<class>`; each with .png or .npy in place of the image's suffix.
    """
    image = PurePosixPath(row.image)
    kind = "bad" if row.label else "good"
    places = (
        image.with_suffix(""),
        f"{row.class_name}/{kind}/{image.stem}",
        f"{row.class_name}/{image.stem}",
        row.class_name,
    )
    for place in places:
        for suffix in SUFFIXES:
            if (path := folder / f"{place}{suffix}").is_file():
                return path
    raise InputError(
        f"{folder}: has no label map of {row.image}; expected {row.class_name}/{image.stem}.png or .npy, or one map for the "
        f"class, {row.class_name}.png or .npy"
    )


def read_label_map(path: Path, size: int) -> np.ndarray:
    """Return the label map of a grey or palette PNG or an integer .npy, (size, size) by nearest neighbour; `InputError`: it is none."""
    if path.suffix == ".npy":
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path}: not an array of numpy ({type(error).__name__})") from None
    else:
        with decoded_mask(path) as image:
            found = np.asarray(image)
    if found.ndim != 2 or not found.size or found.dtype.kind not in "iub":
        raise InputError(f"{path}: is {found.dtype} of shape {found.shape}; expected integers (height, width)")
    found = found.astype(np.int64)
    wrong = (found < 0) | ((found >= MOST_SEGMENTS) & (found != NO_SEGMENT))
    if wrong.any():
        raise InputError(
            f"{path}: has the label {found[wrong][0]}; segments count from 0 to at most {MOST_SEGMENTS - 1}, {NO_SEGMENT} is none"
        )
    rows, columns = (((np.arange(size) + 0.5) * side / size).astype(int) for side in found.shape)
    return found[np.ix_(rows, columns)].astype(np.uint8)


def foreground(image: np.ndarray) -> np.ndarray:
    """Return the label map of an image uint8 (H, W, 3): 0 background, 1 the object, the convex hulls of what stands out from the border.

    Where that is next to nothing or nearly everything, as of a texture, the whole image is the object.
    """
    lab, border = to_lab(image), np.ones(image.shape[:2], bool)
    width = max(1, round(BORDER * min(border.shape)))
    border[width:-width, width:-width] = False
    distance = np.linalg.norm(lab - np.median(lab[border], axis=0), axis=-1)
    components, count = ndimage.label(distance > otsu(distance), np.ones((3, 3)))
    found = np.zeros(border.shape, bool)
    for component in range(1, count + 1):
        member = components == component
        if member.mean() > LEAST_AREA:
            found |= _hull(member)
    if not COVERED[0] <= found.mean() <= COVERED[1]:
        found[:] = True
    return np.where(found, OBJECT, BACKGROUND).astype(np.uint8)


def to_lab(image: np.ndarray) -> np.ndarray:
    """Return an sRGB image uint8 (..., 3) in CIE Lab, float64, of the white D65."""
    value = image / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def otsu(values: np.ndarray, bins: int = 256) -> float:
    """Return the threshold that parts `values` with the largest variance between the two sides (Otsu 1979), a centre of `bins` bins."""
    counts, edges = np.histogram(values, bins)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts).astype(float)
    total, sums = below[-1], np.cumsum(counts * centres)
    above = total - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(centres[np.argmax(np.nan_to_num(between))])


def _hull(member: np.ndarray) -> np.ndarray:
    """Return the pixels of the convex hull of those of `member`, bool (H, W)."""
    points = np.argwhere(member & ~ndimage.binary_erosion(member))
    try:
        corners = points[ConvexHull(points).vertices]
    except QhullError:  # all in a line
        return member
    canvas = Image.new("1", member.shape[::-1])
    ImageDraw.Draw(canvas).polygon([(int(x), int(y)) for y, x in corners], fill=1, outline=1)
    return np.asarray(canvas) | member


def vad_parts(size: int) -> np.ndarray:
    """Return the label map (size, size) of VAD's part, which lies in all images at the same place: 7 segments.

    Background, ring, gap, solder dots, wires, pins, piezo disc; read off a figure of its authors by eye, to 0.02 of the side (spec of VAD).
    """
    image = Image.new("L", (size, size), 0)
    pen = ImageDraw.Draw(image)

    def disc(x: float, y: float, radius: float, label: int) -> None:
        pen.ellipse([(c + s * radius) * size for s in (-1, 1) for c in (x, y)], fill=label)

    def line(points: Sequence[tuple[float, float]], width: float, label: int) -> None:
        pen.line(
            [(x * size, y * size) for x, y in points], fill=label, width=max(1, round(width * size)), joint="curve"
        )

    for radius, label in ((0.50, 1), (0.44, 2), (0.38, 6)):
        disc(0.50, 0.51, radius, label)
    for pin in (((0.27, 0.51), (0.15, 0.96)), ((0.73, 0.49), (0.85, 0.96))):
        line(pin, 0.11, 5)
    for wire in (((0.33, 0.28), (0.36, 0.40), (0.31, 0.51)), ((0.68, 0.28), (0.80, 0.38), (0.77, 0.48))):
        line(wire, 0.06, 4)
    disc(0.35, 0.20, 0.10, 3)
    disc(0.69, 0.22, 0.09, 3)
    return np.asarray(image)
