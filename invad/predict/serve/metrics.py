"""What `/metrics` shows, for Prometheus."""

from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)

_DECISIONS = {True: "anomalous", False: "normal", None: "undecided"}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The counters of one service, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, model: str, version: str, device: str) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("invad_model", "What is served.", registry=registry).info(
            {"model": model, "version": version, "device": device}
        )
        self._requests = Counter(
            "invad_requests", "Requests that were answered.", ("path", "status"), registry=registry
        )
        self._seconds = Histogram(
            "invad_request_seconds",
            "From a request's head to its answer.",
            ("path",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "invad_batch_images", "Images that went through the network together.", buckets=_IMAGES, registry=registry
        )
        self._images = Counter("invad_images", "Images that were predicted.", ("decision",), registry=registry)
        for decision in _DECISIONS.values():  # a rate needs a 0 to begin from
            self._images.labels(decision)

    def gauges(self, taken: Callable[[], float], waiting: Callable[[], float]) -> None:
        """Show what two functions return: how many requests are in progress, and how many images wait for the network."""
        Gauge("invad_requests_in_progress", "Taken and not answered.", registry=self._registry).set_function(taken)
        Gauge("invad_queue_images", "Images waiting for the network.", registry=self._registry).set_function(waiting)

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
