"""What `/metrics` shows, for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

_DECISIONS = {True: "anomalous", False: "normal", None: "undecided"}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one service, in a registry of their own; `taken` and `waiting` are called when they are shown."""

    def __init__(self, model: dict[str, str], taken: Callable[[], float], waiting: Callable[[], float]) -> None:
        self._registry = of = CollectorRegistry()
        ProcessCollector(registry=of)
        Info("invad_model", "What is served.", registry=of).info(model)
        Gauge("invad_requests_in_progress", "Taken and not answered.", registry=of).set_function(taken)
        Gauge("invad_queue_images", "Images waiting for the network.", registry=of).set_function(waiting)
        self._requests = Counter("invad_requests", "Requests that were answered.", ("path", "status"), registry=of)
        self._seconds = Histogram(
            "invad_request_seconds", "From a request's head to its answer.", ("path",), buckets=_SECONDS, registry=of
        )
        self._batches = Histogram(
            "invad_batch_images", "Images that went through the network together.", buckets=_IMAGES, registry=of
        )
        self._images = Counter("invad_images", "Images that were predicted.", ("decision",), registry=of)
        for decision in _DECISIONS.values():  # a rate needs a 0 to begin from
            self._images.labels(decision)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, images: int) -> None:
        """Count a batch."""
        self._batches.observe(images)

    def image(self, anomalous: bool | None) -> None:
        """Count a prediction."""
        self._images.labels(_DECISIONS[anomalous]).inc()

    def text(self) -> bytes:
        """Everything, in Prometheus' format."""
        return generate_latest(self._registry)
