"""`evaluate`: all metrics of both protocols for anybody's anomaly maps."""

import os
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from invad.metrics import inputs
from invad.metrics.class_scores import ClassScores
from invad.metrics.part import Part
from invad.metrics.protocol import PROTOCOLS, Protocol, checked_protocols
from invad.metrics.reading import Block, ClassBlock, ImageTable, array_blocks, can_be_read_again, prepare, stream_blocks
from invad.metrics.results import ClassResult, Evaluation, class_result, doubtful, evaluation

_MAX_WORKERS = 4  # more would wait for the one thread that counts


def evaluate(
    anomaly_maps: inputs.Stack,
    masks: inputs.Stack | None,
    classes: Sequence[str] | np.ndarray | None = None,
    labels: Sequence[int] | np.ndarray | None = None,
    image_scores: Sequence[float] | np.ndarray | None = None,
    protocol: Protocol | Sequence[Protocol] = PROTOCOLS,
    has_mask: Sequence[bool] | np.ndarray | None = None,
    *,
    curves: bool = False,
) -> Evaluation:
    """The eleven metrics and four averages of arXiv:2404.10760 per class and in the mean over classes.

    Images are read once and block by block, with as many threads as there are cores (at most four), and a class is forgotten as soon as
    all its images have come; see `Accumulator` for the memory that one needs. A class of more than 2 ** 25 pixels is counted in a
    histogram. Where its rounding could change a metric by more than 1e-6 (AU-PRO: 1e-4), the images are read again, once for every 2 ** 25
    pixels, and the result is exact; what cannot be read again (an iterator) gets a note with the bound instead.

    Args:
        anomaly_maps: raw scores, higher is more anomalous, any finite numbers: (N, H, W) floating point or integers,
            as one array (a memory map is read block by block) or as an iterable of batches (n, H, W).
        masks: the same shape, or batches of any size in the same order. Bool; or integers that are only 0 and 1, or
            only 0 and 255 (anomalous where not 0; one class must not mix 1 and 255); or floating point in [0, 1]
            (anomalous where above 0.5). Nothing else. None: no image has one.
        classes: N class names; by default all images are one class "all".
        labels: the data set's own image labels (N,), 0 or 1, taken by the `exact` protocol. By default an image is
            anomalous when its mask has an anomalous pixel, which is what the `paper` protocol takes wherever there is a
            mask. Required where one is lacking.
        image_scores: (N,); by default the maximum of each map.
        protocol: one or both of "paper" (comparable to published numbers) and "exact".
        has_mask: (N,) bool; by default all True. Where False, the mask given is ignored: that of a normal image is
            empty; that of an anomalous one is not known, and the image is left out of the region and pixel metrics.
        curves: add the curves.

    Returns:
        `{"per_class": {class: {protocol: {key: value}}}, "mean": {protocol: {key: value}}, "notes": [...],
        "protocol_version": ...}` with classes sorted by name and keys as in `KEYS`. A value is a fraction in [0, 1],
        or None where it is not defined; `notes` then says why, naming class, protocol and keys, and which classes a
        mean leaves out. The order of images and batches changes nothing.

        With `curves` also `"curves": {class: {curve: {column: [numbers]}}}`, as far as the data define them, of at most 1,000 points
        whose straight connections keep the area of all points within 1e-4: `image_roc` and `pixel_roc` (`false_positive_rate`,
        `true_positive_rate`), `image_pr` and `pixel_pr` (`recall`, `precision`, and `score`, the raw one at or above which an item is
        positive), `region_pro` (`false_positive_rate`, `region_overlap`) and `pixel_thresholds` (`threshold` 0, 0.01 ... 1 on scaled
        scores, `precision`, `recall`, `f1`, `iou`). Image curves take the labels of the `exact` protocol.

    Raises:
        InputError: NaN or infinite scores (naming image and class), shapes or lengths that do not match, empty input,
            other mask values, masks that are lacking without labels, an unknown protocol.
    """
    protocols = checked_protocols(protocol)
    if inputs.is_array(anomaly_maps, "anomaly_maps") and (masks is None or inputs.is_array(masks, "masks")):
        maps, masks = inputs.maps_and_masks(anomaly_maps, masks)
        table = ImageTable(len(maps), classes, labels, image_scores, has_mask, no_masks=masks is None)
        read, again = array_blocks(maps, masks, table), True
    else:
        table = ImageTable(None, classes, labels, image_scores, has_mask, no_masks=masks is None)
        read, again = stream_blocks(anomaly_maps, masks, table), can_be_read_again(anomaly_maps, masks)
    expected = table.class_sizes()

    def result(name: str, scores: ClassScores) -> ClassResult:
        pixels = scores.measured(curves=curves)
        if again and pixels is not None and doubtful(pixels, protocols):
            pixels = scores.measured_again(lambda: _pixels_of(name, read), curves=curves)
        return class_result(name, pixels, scores.images(), protocols, curves=curves)

    open_classes: dict[str, ClassScores] = {}
    results: dict[str, ClassResult] = {}
    counted: set[str] = set()
    for part in _prepared(read(None), counted):
        scores = open_classes.setdefault(part.name, ClassScores())
        scores.add(part)
        inputs.one_mask_value(scores.mask_values, part.name)
        if scores.counted:
            counted.add(part.name)
        if scores.count == expected.get(part.name):
            results[part.name] = result(part.name, open_classes.pop(part.name))
    results |= {name: result(name, scores) for name, scores in open_classes.items()}
    return evaluation(results, protocols, curves=curves)


def _prepared(blocks: Iterator[Block], counted: Container[str] = ()) -> Iterator[ClassBlock]:
    """Prepare blocks on all cores and yield what becomes of them in order; few of them are in memory at a time.

    `counted`: classes that have become a histogram; what can be done for it beforehand is done.
    """

    def prepared(block: Block) -> list[ClassBlock]:
        parts = prepare(block)
        for part in parts:
            if part.name in counted:
                _ = part.pixels.ordered
        return parts

    workers = min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _MAX_WORKERS
    )
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[list[ClassBlock]]] = deque()
        try:
            for block in blocks:
                waiting.append(pool.submit(prepared, block))
                if len(waiting) > workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _pixels_of(name: str, read: Callable[[str | None], Iterator[Block]]) -> Iterator[Part]:
    """Read the pixels of one class again."""
    yield from (part.pixels for part in _prepared(read(name)) if part.name == name)
