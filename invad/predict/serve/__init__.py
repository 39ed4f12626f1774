"""A model as an HTTP service: `invad-pipe serve`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is refused, and what waits for what."""

    max_bytes: int = 20_000_000  # of a body
    max_pixels: int = 40_000_000  # of an image, by its header
    queue: int = 64  # requests that are read, waiting or computed at a time
    timeout: float = 30.0  # seconds for a request from its head to its answer, and for every wait for a client
    batch_size: int = 16  # images that go through the network at a time
    batch_wait: float = 0.005  # seconds that the first image of a batch waits for company
    connections: int = 512  # that stand at a time; fewer where the process may not open twice as many files
