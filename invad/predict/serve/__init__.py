"""A model as an HTTP service: `invad-pipe serve`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is refused, and how many images share a batch."""

    max_bytes: int = 20_000_000  # of a body
    max_pixels: int = 40_000_000  # of an image, by its header
    queue: int = 64  # requests whose body has come, waiting or computed; all bodies together have at most so many times `max_bytes`
    timeout: float = 30.0  # seconds for a request from its head to its answer, and for every wait for a client
    batch_size: int = 16  # images that go through the network at a time
