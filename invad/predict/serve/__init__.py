"""A model as an HTTP service: `invad-pipe serve`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is refused, and what waits for what.

    Attributes:
        max_bytes: Of a body.
        max_pixels: Of an image, by its header.
        queue: Requests that are read, waiting or computed at a time.
        timeout: Seconds for a request from its head to its answer; and for every wait for a client.
        batch_size: Images that go through the network at a time.
        batch_wait: Seconds that the first image of a batch waits for company.
        connections: That stand at a time; fewer where the process may not open that many files.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    queue: int = 64
    timeout: float = 30.0
    batch_size: int = 16
    batch_wait: float = 0.005
    connections: int = 512
