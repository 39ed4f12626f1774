"""`evaluate`: all metrics of both protocols for anybody's anomaly maps."""

from collections.abc import Sequence

import numpy as np

from invad.metrics import inputs
from invad.metrics.parallel import in_order
from invad.metrics.protocol import PROTOCOLS, Protocol, checked_protocols
from invad.metrics.reading import ClassBlock, ImageTable, array_blocks, prepare, stream_blocks
from invad.metrics.results import ClassResult, Evaluation, class_result, evaluation


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
    all its images have come. Until then 2 bytes of each of its pixels are kept, and 2 to 4 more where it is anomalous; 8 bytes of scores
    that float32 cannot hold (doubles, and integers of 32 bits or more, of which doubles are made).

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
        blocks = array_blocks(maps, masks, table)
    else:
        table = ImageTable(None, classes, labels, image_scores, has_mask, no_masks=masks is None)
        blocks = stream_blocks(anomaly_maps, masks, table)
    missing = table.class_sizes()
    waiting: dict[str, list[ClassBlock]] = {}
    results: dict[str, ClassResult] = {}
    for block in (of_class for prepared in in_order(prepare, blocks) for of_class in prepared):
        waiting.setdefault(block.name, []).append(block)
        missing[block.name] = missing.get(block.name, 0) - block.labels.size
        if not missing[block.name]:
            results[block.name] = class_result(block.name, waiting.pop(block.name), protocols, curves=curves)
    results |= {name: class_result(name, blocks, protocols, curves=curves) for name, blocks in waiting.items()}
    return evaluation(results, protocols, curves=curves)
