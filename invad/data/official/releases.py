"""The official archives of the published data sets: addresses, sizes, checksums and licences. The one place that knows them."""

from collections.abc import Callable
from dataclasses import dataclass

from invad.config import DownloadConfig
from invad.data.official.http import Remote


@dataclass(frozen=True)
class Archive:
    """An official archive; `unpacked_size` in bytes, of the members that `wanted` takes (by default all of them)."""

    remote: Remote
    unpacked_size: int
    wanted: Callable[[str], bool] | None = None


def _archive(
    url: str, size: int, sha256: str, *, unpacked_size: int = 0, wanted: Callable[[str], bool] | None = None
) -> Archive:
    """Return a published archive; photographs hardly shrink, so that what it unpacks to is what it has by default."""
    return Archive(Remote(url.rpartition("/")[2], url, size, sha256), unpacked_size or size, wanted)


@dataclass(frozen=True)
class Licence:
    """What a data set may be used for; `accept` where its owner asks for acceptance before the download."""

    name: str
    terms: str
    accept: bool = False


LICENCES = {
    "coco": Licence(
        "CC BY 4.0 for the annotations, images under their Flickr licences", "https://cocodataset.org/#termsofuse"
    ),
    "mvtec": Licence(
        "CC BY-NC-SA 4.0, no commercial use", "https://www.mvtec.com/company/research/datasets/mvtec-ad", accept=True
    ),
    "visa": Licence("CC BY 4.0", "https://github.com/amazon-science/spot-diff"),
}

COCO_ADDRESS = "http://images.cocodataset.org"
_ANNOTATIONS = _archive(
    f"{COCO_ADDRESS}/annotations/annotations_trainval2017.zip",
    252_907_541,
    "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
    unpacked_size=490_000_000,
    wanted=lambda name: name.startswith("annotations/instances_"),
)
_COCO_IMAGES = (
    _archive(
        f"{COCO_ADDRESS}/zips/val2017.zip",
        815_585_330,
        "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    ),
    _archive(
        f"{COCO_ADDRESS}/zips/train2017.zip",
        19_336_861_798,
        "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    ),
)
_MVTEC = _archive(
    "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/"
    "mvtec_anomaly_detection.tar.xz",
    5_264_982_680,
    "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
)
_VISA = _archive(
    "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
    1_929_840_640,
    "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
)


def official_archives(dataset: str, config: DownloadConfig) -> tuple[Archive, ...]:
    """Return the archives that `config` asks for, at their official addresses."""
    images = _COCO_IMAGES if config.images == "archive" else ()
    return {"coco": (_ANNOTATIONS, *images), "mvtec": (_MVTEC,), "visa": (_VISA,)}[dataset]
