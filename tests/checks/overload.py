"""The service gets several times what it can take, from clients of which some are slow, silent or leave.

python tests/checks/overload.py --trials 100 --seed 0

A trial is one such crowd: an accepted image gets its own score, any other a refusal (429 for a full queue; 503 where there is no time or
no connection), `/health` answers meanwhile, and memory stays where it was. In the end SIGTERM ends the service in the midst of a crowd.
"""

import io
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import requests
from check_frame import Trial, main
from PIL import Image
from prediction_toys import toy_model_folder

import invad

QUEUE, CONNECTIONS, TIMEOUT, CROWD, IDLE, SLOW = (
    8,
    48,
    10,
    40,
    80,
    3,
)  # SLOW: of the idle, those that hold a place in the queue
MEMORY = 500_000_000  # more than after the first images
PICTURES = 8
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\n"


def encoded(seed: int) -> bytes:
    """Noise; no two seeds have one score."""
    pixels = np.random.default_rng(seed).integers(0, 100 + 15 * seed, (300, 400, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Crowd:
    """Clients of the service at `port`; `scores`: of each picture, as the Python interface gives it."""

    def __init__(self, port: int, pictures: list[bytes], scores: list[float]) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self._pictures, self._scores = pictures, scores

    def ask(self, number: int) -> str:
        """Send a picture; return the status, or `closed` for a connection that the service has closed."""
        try:
            answer = requests.post(
                f"{self.url}/predict", self._pictures[number], headers={"Content-Type": "image/png"}, timeout=60
            )
        except requests.ConnectionError:
            return "closed"
        if answer.status_code == 200:
            score = answer.json()["score"]
            assert abs(score - self._scores[number]) < 1e-4, f"picture {number} got {score}, not {self._scores[number]}"
        else:
            assert answer.status_code in (429, 503), f"{answer.status_code}: {answer.text}"
            assert list(answer.json()) == ["error"], answer.text
        return str(answer.status_code)

    def disturb(self, way: int, ended: threading.Event) -> None:
        """Open a connection and send a body that never comes, nothing, half a head or garbage, or leave in the midst of a body."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall((HEAD + b"x", b"", HEAD[:50], b"\x16\x03\x01" * 99, HEAD + b"x" * 4000)[way])
            if way < 4:
                ended.wait(30)

    def come(self, rng: random.Random) -> Counter[str]:
        """Everybody at once; return how often each status was the answer."""
        ended = threading.Event()
        with ThreadPoolExecutor(CROWD) as askers, ThreadPoolExecutor(IDLE) as others:
            for number in range(IDLE):
                others.submit(self.disturb, 0 if number < SLOW else rng.randrange(1, 5), ended)
            answers = [askers.submit(self.ask, rng.randrange(PICTURES)) for _ in range(CROWD)]
            try:
                for _ in range(3):
                    assert self.is_healthy(), "/health does not answer"
                return Counter(answer.result() for answer in answers)
            finally:
                ended.set()

    def is_healthy(self) -> bool:
        """A probe, as others do, comes again when its connection found no place."""
        for _ in range(5):
            with suppress(requests.ConnectionError):
                return requests.get(f"{self.url}/health", timeout=20).json()["status"] == "ok"
        return False


@contextmanager
def check(folder: Path) -> Iterator[Trial]:
    """Start the service, send crowds to it, and end it."""
    model, log = toy_model_folder(folder / "toys"), folder / "log"
    pictures = [encoded(seed) for seed in range(PICTURES)]
    predictor = invad.load(model, device="cpu")
    scores = [predictor.predict(Image.open(io.BytesIO(data)))[0].score for data in pictures]
    options = {"--port": 0, "--queue": QUEUE, "--connections": CONNECTIONS, "--timeout": TIMEOUT, "--device": "cpu"}
    command = [
        sys.executable,
        "-m",
        "invad",
        "serve",
        str(model),
        *(str(word) for pair in options.items() for word in pair),
    ]
    with log.open("w") as file, subprocess.Popen(command, stderr=subprocess.PIPE, stdout=file, text=True) as service:
        try:
            first = service.stderr.readline()
            crowd = Crowd(int(re.search(r"127\.0\.0\.1:(\d+), cpu", first)[1]), pictures, scores)
            said = []
            drain = threading.Thread(target=lambda: said.extend(service.stderr))
            drain.start()
            for number in range(PICTURES):
                assert crowd.ask(number) == "200"
            memory = psutil.Process(service.pid).memory_info().rss

            def trial(seed: int) -> str:
                statuses = crowd.come(random.Random(seed))
                assert statuses["200"], f"nobody was served: {dict(statuses)}"
                assert crowd.ask(0) == "200", "the crowd has left, and still there is no answer"
                more = psutil.Process(service.pid).memory_info().rss - memory
                assert more < MEMORY, f"{more / 1e6:.0f} MB of memory more than before"
                assert service.poll() is None and len("".join(said)) < 20_000, "".join(said)[-2000:]
                return "with refusals" if statuses.keys() - {"200"} else "without"

            yield trial
            with ThreadPoolExecutor(CROWD) as askers:
                answers = [askers.submit(crowd.ask, number % PICTURES) for number in range(CROWD)]
                service.send_signal(signal.SIGTERM)
                assert service.wait(60) == 0, f"SIGTERM ended it with {service.returncode}"
                assert {answer.result() for answer in answers} <= {"200", "429", "503", "closed"}
            drain.join()
            assert "Traceback" not in "".join(said), "".join(said)[-2000:]
        finally:
            service.kill()


if __name__ == "__main__":
    main(__file__, check)
