"""The HTTP service, over real connections: its numbers, its limits, what hostile clients can do, how it ends, and its page."""

import base64
import io
import json
import logging
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from inspect import signature

import numpy as np
import pytest
import requests
from conftest import REPOSITORY
from devtools import browser
from pictures import encoded, picture, png_header
from PIL import Image
from prediction_toys import toy_model_folder
from prometheus_client.parser import text_string_to_metric_families

import invad
from invad.cli.models import serve
from invad.metrics.calibration import Thresholds
from invad.predict.predictions import draw_overlay, overlay_picture
from invad.predict.predictor import load_predictor
from invad.predict.serve import Limits
from invad.predict.serve.app import read_page
from invad.predict.serve.server import CONNECTIONS, LOCAL_NAMES, address, bind, make_server
from invad.predict.serve.service import CONTENT_TYPES, Service

PNG = {"Content-Type": "image/png"}
CLOSE = 1e-4  # of a score or a map value: convolutions round otherwise in a larger batch, by up to 1.1e-5 in what was measured


class Client:
    """Requests to one service. server, service: what runs behind it."""

    def __init__(self, server, service, listener):
        self.server, self.service = server, service
        self.address, self.port = address(listener), listener.getsockname()[1]
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, path, **options):
        return self.session.get(self.address + path, timeout=20, **options)

    def post(self, data, headers=PNG, query=""):
        """A POST to /predict."""
        return self.session.post(f"{self.address}/predict{query}", data=data, headers=headers, timeout=20)

    def refusal(self, data, headers=PNG, query=""):
        """Status and reason of a POST that gets no prediction."""
        answer = self.post(data, headers, query)
        assert list(answer.json()) == ["error"]
        return answer.status_code, answer.json()["error"]

    def alone(self, data, query=""):
        """The answer to a POST over a connection of its own."""
        return requests.post(f"{self.address}/predict{query}", data=data, headers=PNG, timeout=20)

    def raw(self, text, wait=20):
        """All that comes back for these bytes until the connection is closed; None if it still stands after `wait` seconds."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as connection:
            connection.sendall(text)
            parts = []
            try:
                while part := connection.recv(65536):
                    parts.append(part)
            except TimeoutError:
                return None
            except ConnectionResetError:
                pass
            return b"".join(parts).decode()

    def metrics(self):
        """(name, labels) -> value of everything that /metrics shows."""
        text = self.get("/metrics").text
        families = text_string_to_metric_families(text)
        return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}

    def counted(self, status, path="/predict"):
        """How many requests were answered with that status."""
        return self.metrics().get(("invad_requests_total", ("path", path), ("status", str(status))), 0)


@contextmanager
def serving(predictor, limits=None, hosts=LOCAL_NAMES):
    """A service in a thread of this process."""
    service = Service(predictor, "toys", limits or Limits())
    server = make_server(service, hosts)
    listener = bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    client = Client(server, service, listener)
    thread.start()
    try:
        yield client
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_model_folder(tmp_path_factory.mktemp("serve") / "toys")


@pytest.fixture(scope="module")
def predictor(folder):
    return invad.load(folder, device="cpu")


@pytest.fixture(scope="module")
def client(predictor):
    """A service with small limits that all tests share which leave it as it was."""
    with serving(predictor, Limits(max_bytes=400_000, max_pixels=1_000_000)) as client:
        yield client
        assert client.counted(500) == 0
        assert client.post(encoded(picture())).status_code == 200


@pytest.fixture
def own(folder):
    """A predictor that a test may change."""
    return invad.load(folder, device="cpu")


# ---- numbers


def check_answer(answer, prediction):
    """The answer of the service and the prediction of the Python interface, alike but for rounding."""
    assert answer["score"] == pytest.approx(prediction.score, abs=CLOSE)
    assert answer["anomalous"] is prediction.anomalous
    assert (answer["width"], answer["height"]) == (prediction.width, prediction.height)
    regions = prediction.regions()
    assert len(answer["regions"]) == len(regions)
    for given, expected in zip(answer["regions"], regions, strict=True):
        assert given["score"] == pytest.approx(expected.score, abs=CLOSE)
        assert given["box"] == pytest.approx(expected.box, abs=1)
        assert given["area"] == pytest.approx(expected.area, abs=5)


def test_an_answer_has_what_the_python_interface_says(client, predictor):
    data = encoded(picture(3))
    answer = client.post(data).json()
    (prediction,) = predictor.predict(Image.open(io.BytesIO(data)))
    check_answer(answer, prediction)
    assert answer["regions"] and answer["image_threshold"] == 1.07 and answer["pixel_threshold"] == 1.05
    assert (answer["model"], answer["class"], answer["heatmap"]) == ("toys", None, None)


def test_concurrent_clients_get_their_own_answers_from_shared_batches(predictor, own):
    pictures = [picture(seed, 50 + 3 * seed, 90) for seed in range(32)]
    kinds = ("PNG", "BMP", "TIFF")
    bodies = [encoded(image, kinds[index % 3]) for index, image in enumerate(pictures)]
    gate = Gate(own)
    with serving(own, Limits(batch_size=8)) as client, ThreadPoolExecutor(32) as clients:
        asked = [clients.submit(client.alone, body) for body in bodies]
        wait_until(lambda: client.metrics()["invad_queue_images",] + sum(gate.computed) == 32)
        gate.open()
        answers = [answer.result() for answer in asked]
        values = client.metrics()
    assert [answer.status_code for answer in answers] == [200] * 32
    for answer, prediction in zip(answers, predictor.predict(pictures), strict=True):
        check_answer(answer.json(), prediction)
    assert len({answer.json()["score"] for answer in answers}) == 32
    assert values["invad_batch_images_sum",] == 32
    assert 4 <= values["invad_batch_images_count",] <= 5  # the first may be less than full
    assert values["invad_batch_images_bucket", ("le", "8.0")] == values["invad_batch_images_count",]
    decisions = [values["invad_images_total", ("decision", name)] for name in ("anomalous", "normal", "undecided")]
    assert sum(decisions) == 32 and decisions[2] == 0 and decisions[0] == sum(a.json()["anomalous"] for a in answers)


def test_what_shares_the_batch_does_not_matter(own):
    pictures = [picture(seed) for seed in range(17)]
    alone = [next(own.stream([image], 1)) for image in pictures]
    gate = Gate(own)
    with serving(own, Limits(batch_size=16)) as client, ThreadPoolExecutor(17) as clients:
        first = clients.submit(client.alone, encoded(pictures[0]))
        gate.wait_for(1)
        others = [clients.submit(client.alone, encoded(each)) for each in pictures[1:]]
        wait_until(lambda: client.metrics()["invad_queue_images",] == 16)
        gate.open()
        scores = [answer.result().json()["score"] for answer in (first, *others)]
    assert gate.computed == [1, 16]
    assert scores == pytest.approx([prediction.score for prediction in alone], abs=CLOSE)


def test_a_request_may_name_the_class(client, predictor):
    data = encoded(picture(3))
    answer = client.post(data, query="?class=cable").json()
    assert (answer["class"], answer["image_threshold"], answer["pixel_threshold"]) == ("cable", 2.14, 2.1)
    assert answer["anomalous"] is False and answer["regions"] == []
    assert client.post(data, query="?class=bottle").json()["image_threshold"] == 1.07
    status, reason = client.refusal(data, query="?class=screw")
    assert (status, reason) == (400, "class: the model has the classes bottle, cable, not 'screw'")


def test_thresholds_of_the_operator_hold_for_every_class(folder):
    predictor = load_predictor(folder, class_name="cable", device="cpu", thresholds=Thresholds(0.5, None))
    with serving(predictor) as client:
        answers = [client.post(encoded(picture()), query=query).json() for query in ("", "?class=bottle")]
    assert [answer["class"] for answer in answers] == ["cable", "bottle"]
    assert [answer["image_threshold"] for answer in answers] == [0.5, 0.5]
    assert [answer["pixel_threshold"] for answer in answers] == [2.1, 1.05]


def test_a_model_without_calibration_gives_scores_and_no_decision(tmp_path):
    with serving(invad.load(toy_model_folder(tmp_path / "toys", calibrated=False), device="cpu")) as client:
        answer = client.post(encoded(picture()), query="?class=bottle&heatmap=true").json()
        values = client.metrics()
    assert answer["anomalous"] is answer["image_threshold"] is answer["pixel_threshold"] is None
    assert answer["score"] > 0 and answer["regions"] == [] and answer["heatmap"]
    assert values["invad_images_total", ("decision", "undecided")] == 1


def test_the_heat_map_is_the_overlay_without_words(client, predictor):
    image = picture(3, 200, 600)
    answer = client.post(encoded(image), query="?heatmap=true").json()
    heatmap = Image.open(io.BytesIO(base64.b64decode(answer["heatmap"])))
    assert heatmap.format == "PNG"
    grey = overlay_picture(image)
    (prediction,) = predictor.predict(image)
    expected = np.asarray(draw_overlay(grey, prediction))[: grey.height]
    assert np.abs(np.asarray(heatmap).astype(int) - expected).max() <= 3


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 100_000), (100_000, 1), (3, 2)])
def test_images_of_any_shape_are_answered(client, width, height):
    answer = client.post(encoded(Image.new("RGB", (width, height))), query="?heatmap=true").json()
    assert (answer["width"], answer["height"]) == (width, height)
    heatmap = Image.open(io.BytesIO(base64.b64decode(answer["heatmap"])))
    assert max(heatmap.size) <= 4096 and heatmap.width * heatmap.height <= 1024 * 1024


# ---- health, metrics, description


def test_health(client):
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "model": "toys",
        "version": invad.__version__,
        "device": "cpu",
        "runtime": "torch",
        "image_size": 64,
        "classes": ["bottle", "cable"],
        "class": None,
        "limits": {"max_bytes": 400_000, "max_pixels": 1_000_000},
    }


def test_metrics_are_counted_by_path_and_status(client):
    before = client.metrics()
    client.post(encoded(picture()))
    client.refusal(b"")
    for path in ("/nowhere", "/elsewhere"):
        assert client.get(path).json() == {"error": "Not Found"}
    after = client.metrics()

    def more(*key):
        return after[key] - before.get(key, 0)

    assert more("invad_requests_total", ("path", "/predict"), ("status", "200")) == 1
    assert more("invad_requests_total", ("path", "/predict"), ("status", "400")) == 1
    assert more("invad_requests_total", ("path", "other"), ("status", "404")) == 2
    assert more("invad_request_seconds_count", ("path", "/predict")) == 2
    assert more("invad_request_seconds_sum", ("path", "/predict")) > 0
    assert after["invad_model_info", ("device", "cpu"), ("model", "toys"), ("version", invad.__version__)] == 1
    assert after["invad_requests_in_progress",] == after["invad_queue_images",] == 0
    assert after["process_resident_memory_bytes",] > 0
    assert client.get("/metrics").headers["Content-Type"].startswith("text/plain")
    paths = {dict(labels)["path"] for name, *labels in after if name == "invad_requests_total"}
    assert paths <= {"/", "/predict", "/health", "/metrics", "/openapi.json", "other"}


def test_the_description_names_what_is_sent_and_answered(client):
    description = client.get("/openapi.json").json()
    predict = description["paths"]["/predict"]["post"]
    assert sorted(predict["requestBody"]["content"]) == sorted(CONTENT_TYPES)
    assert set(predict["responses"]) == {"200", "4XX", "5XX"}
    for status, response in predict["responses"].items():
        schema = response["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert schema == ("PredictionAnswer" if status == "200" else "ErrorAnswer")
    answer = client.post(encoded(picture())).json()
    assert list(description["components"]["schemas"]["PredictionAnswer"]["properties"]) == list(answer)
    assert {p["name"] for p in predict["parameters"]} == {"heatmap", "class"}
    assert [client.get(path).status_code for path in ("/docs", "/redoc")] == [404, 404]  # they would need the network


def test_every_answer_carries_the_headers(client):
    page, policy = client.get("/"), read_page()[1]
    assert page.headers["Content-Security-Policy"] == policy
    assert page.headers["Content-Type"].startswith("text/html")
    assert "unsafe" not in policy and policy.startswith("default-src 'none'; script-src 'sha256-")
    others = [client.get(path) for path in ("/health", "/metrics", "/nowhere")]
    others += [client.post(b""), client.post(encoded(picture()))]
    for answer in [page, *others]:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "server" not in answer.headers and "Access-Control-Allow-Origin" not in answer.headers
    assert {answer.headers["Content-Security-Policy"] for answer in others} == {
        "default-src 'none'; frame-ancestors 'none'"
    }


# ---- refusals


@pytest.mark.parametrize(
    "content_type", ["image/png", "image/webp", "application/octet-stream", "IMAGE/PNG; charset=binary", "text/plain"]
)
def test_the_bytes_say_what_an_image_is_not_the_content_type(client, content_type):
    assert client.post(encoded(picture(), "JPEG"), {"Content-Type": content_type}).status_code == 200


def broken_png():
    data = bytearray(encoded(picture()))
    data[len(data) // 2] ^= 1
    return bytes(data)


FRAMES = [picture(seed, 8, 8) for seed in range(3)]
DAMAGED = {
    "words": (b"not an image", "not an image"),
    "header": (encoded(picture())[:20], "cannot be read as an image"),
    "half": (encoded(picture())[:9000], "damaged"),
    "checksum": (broken_png(), "damaged"),
    "half JPEG": (encoded(picture(), "JPEG")[:900], "damaged"),
    "GIF": (encoded(picture(), "GIF"), "not an image"),
    "half WebP": (encoded(picture(), "WEBP")[:900], "cannot be read as an image"),
    "16 bits": (encoded(Image.fromarray(np.zeros((8, 8), np.uint16))), "pixel format"),
    "animation": (encoded(FRAMES[0], save_all=True, append_images=FRAMES[1:]), "frames or pages"),
    "pages": (encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]), "frames or pages"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_not_an_image_is_refused_with_the_reason(client, name):
    body, word = DAMAGED[name]
    status, reason = client.refusal(body)
    assert status == 422 and reason.startswith("image: ") and word in reason
    assert "\n" not in reason


def test_an_empty_body_and_wrong_parameters(client):
    assert client.refusal(b"") == (400, "the body is empty; expected an image")
    status, reason = client.refusal(encoded(picture()), query="?heatmap=perhaps")
    assert status == 400 and reason.startswith("heatmap: ")
    for answer, status in ((client.get("/predict"), 405), (client.get("/nowhere"), 404)):
        assert answer.status_code == status and list(answer.json()) == ["error"]


def test_too_many_bytes_are_refused_before_they_come(client):
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nConnection: close\r\n"
    answer = client.raw(f"{head}Content-Length: 400001\r\nExpect: 100-continue\r\n\r\n".encode())
    assert answer.startswith("HTTP/1.1 413 ") and "100 Continue" not in answer
    assert json.loads(answer.partition("\r\n\r\n")[2]) == {
        "error": "the body is too long; at most 400000 bytes are accepted"
    }


def test_too_many_bytes_in_chunks_are_refused_on_the_way(client):
    sent = 0

    def chunks():
        nonlocal sent
        for _ in range(40):
            sent += 100_000
            yield bytes(100_000)

    status, reason = client.refusal(chunks())
    assert (status, reason) == (413, "the body is too long; at most 400000 bytes are accepted")
    assert client.post(iter([encoded(picture())])).status_code == 200  # chunks by themselves are fine


@pytest.mark.parametrize(("width", "height"), [(1001, 1000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_by_the_header(client, width, height):
    status, reason = client.refusal(png_header(width, height))
    assert status == 413 and reason.startswith("image: ")


def test_a_small_file_of_many_pixels_within_the_limit_is_an_image(client):
    data = encoded(Image.new("RGB", (1000, 1000)))
    assert len(data) < 5000
    assert client.post(data).json()["width"] == 1000


def test_a_body_that_breaks_off(client):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
    before = client.counted(400)
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(head + encoded(picture())[:500])
    wait_until(lambda: client.counted(400) == before + 1)
    assert client.metrics()["invad_requests_in_progress",] == 0


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\nlong\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    ],
    ids=["TLS", "no host", "two hosts", "negative", "chunks", "header"],
)
def test_what_is_not_http_is_refused(client, text, caplog):
    answer = client.raw(text)
    assert answer.startswith("HTTP/1.1 400 Bad Request") and "application/json" in answer
    assert list(json.loads(answer.partition("\r\n\r\n")[2])) == ["error"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# ---- hosts


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", ""]
)
def test_foreign_host_names_are_refused(client, host):
    answer = client.raw(f"GET /openapi.json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith("HTTP/1.1 400 ") and '"error"' in answer


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8000", "[::1]"])
def test_names_of_this_machine_are_answered(client, host):
    answer = client.raw(f"GET /openapi.json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith("HTTP/1.1 200 ")


def test_any_name_is_answered_where_none_is_given(predictor):
    with serving(predictor, hosts=None) as client:
        assert client.get("/openapi.json", headers={"Host": "evil.example"}).status_code == 200


# ---- time and room


class Gate:
    """Holds the network of a predictor back until it is opened. computed: the number of images of each batch that has begun."""

    def __init__(self, predictor):
        self.computed, self._open, self._stream = [], threading.Event(), predictor.stream
        predictor.stream = self._held

    def _held(self, images, batch_size):
        self.computed.append(len(images))
        assert self._open.wait(20)
        return self._stream(images, batch_size)

    def open(self):
        self._open.set()

    def wait_for(self, batches):
        wait_until(lambda: len(self.computed) >= batches)


def wait_until(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError


def test_a_full_queue_refuses_and_recovers(own):
    gate = Gate(own)
    with serving(own, Limits(queue=3)) as client, ThreadPoolExecutor(3) as clients:
        answers = [clients.submit(client.alone, encoded(picture(seed))) for seed in range(3)]
        wait_until(lambda: client.service.taken == 3)
        refused = client.post(encoded(picture()))
        assert client.get("/health").status_code == 200
        assert client.metrics()["invad_requests_in_progress",] == 3
        gate.open()
        assert [answer.result().status_code for answer in answers] == [200] * 3
        assert client.post(encoded(picture())).status_code == 200
        assert client.counted(429) == 1
    assert refused.status_code == 429 and refused.headers["Retry-After"] == "1"
    assert refused.json() == {"error": "3 requests are waiting; try again later"}


def test_what_waits_too_long_is_answered_and_not_computed(own):
    gate = Gate(own)
    with serving(own, Limits(timeout=2, batch_size=1)) as client, ThreadPoolExecutor(3) as clients:
        first = clients.submit(client.alone, encoded(picture()))
        gate.wait_for(1)
        answers = [first, *(clients.submit(client.alone, encoded(picture())) for _ in range(2))]
        for answer in (each.result() for each in answers):
            assert answer.status_code == 503 and answer.headers["Retry-After"] == "5"
            assert answer.json() == {"error": "no answer within 2 s; try again later"}
        gate.open()
        assert client.post(encoded(picture())).status_code == 200
        assert client.metrics()["invad_queue_images",] == 0
    assert gate.computed == [1, 1]  # the first one and the last


def test_slow_clients_are_dropped(predictor):
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
    with serving(predictor, Limits(timeout=0.5)) as client:
        assert client.raw(b"") == ""
        assert client.raw(b"GET / HTTP/1.1\r\nHost: loc") == ""
        late = client.raw(head + b"x")
        assert late.startswith("HTTP/1.1 408 ") and "the body did not arrive within 0.5 s" in late
        with socket.create_connection(("127.0.0.1", client.port)) as greedy:
            try:
                for _ in range(50):  # nothing of the 57 MB that this asks for is read
                    greedy.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 80)
            except OSError:
                pass
            client.session.close()
            wait_until(lambda: not client.server.server_state.connections)
        assert client.get("/health").status_code == 200


def test_a_mistake_of_ours_costs_one_request(own, caplog):
    stream, poison = own.stream, picture(7).resize((64, 64), Image.Resampling.BILINEAR)

    def poisoned(images, batch_size):
        if any(np.array_equal(image.pixels, np.asarray(poison)) for image in images):
            raise RuntimeError("two\nlines")
        return stream(images, batch_size)

    own.stream = poisoned
    gate = Gate(own)
    bodies = [encoded(picture(seed)) for seed in range(8)]
    with serving(own, Limits(batch_size=8)) as client, ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(client.alone, body) for body in bodies]
        wait_until(lambda: client.metrics()["invad_queue_images",] + sum(gate.computed) == 8)
        gate.open()
        answers = [answer.result() for answer in asked]
        assert client.counted(500) == 1
    assert [answer.status_code for answer in answers] == [200] * 7 + [500]
    assert answers[7].json() == {"error": "an unexpected error of the service; its log says more"}
    assert answers[7].headers["X-Content-Type-Options"] == "nosniff"
    (record,) = [record for record in caplog.records if record.name == "invad.predict.serve.app"]
    assert record.getMessage() == "POST /predict" and str(record.exc_info[1]) == "two\nlines"
    assert not [record for record in caplog.records if record.name == "uvicorn.error"]


# ---- the process

ENDLESS = """
import sys, time
import invad.predict.serve.service as service
from invad.cli import main
read = service.image_of_bytes


def slowly(data, *rest):
    time.sleep({b"endless": 600, b"wait": 4}.get(data, 0))
    return read(WAITED if data == b"wait" else data, *rest)


service.image_of_bytes = slowly
main()
"""


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def process(*arguments):
    """`invad-pipe serve` on a free port, where the body `endless` takes ten minutes to decode and `wait` four seconds: (process, port)."""
    code = f"WAITED = {encoded(picture(0, 8, 8))!r}\n{ENDLESS}"
    command = [sys.executable, "-c", code, "serve", *map(str, arguments), "--port", "0", "--runtime", "torch"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as run:
        try:
            run.lines = [run.stderr.readline(), run.stderr.readline()]
            yield run, int(re.search(r"http://0\.0\.0\.0:(\d+), cpu", run.lines[1])[1])
        finally:
            run.kill()


def test_sigterm_lets_it_finish_what_it_took_but_not_what_never_ends(folder):
    with (
        process(folder, "--timeout", 8, "--device", "cpu", "--class", "cable", "--host", "0.0.0.0") as (run, port),
        ThreadPoolExecutor(3) as clients,
    ):
        url = f"http://127.0.0.1:{port}"

        def get(path, **options):
            return requests.get(url + path, timeout=20, **options)

        def post(body):
            return requests.post(f"{url}/predict", data=body, headers=PNG, timeout=20)

        assert run.lines[0].startswith("warning: --host 0.0.0.0: ")
        assert get("/health", headers={"Host": "any.example"}).json()["class"] == "cable"
        endless = clients.submit(post, b"endless")
        assert post(encoded(picture())).status_code == 200
        taken = clients.submit(post, b"wait")
        wait_until(lambda: "invad_requests_in_progress 2.0\n" in get("/metrics").text)
        run.send_signal(signal.SIGTERM)
        wait_until(lambda: not is_open(port))
        assert not taken.done()
        assert taken.result().status_code == 200
        assert endless.result().json() == {"error": "no answer within 8 s; try again later"}
        assert run.wait(20) == 0
        assert run.stderr.read() == ""


def test_mistakes_of_the_operator_are_one_line(folder, tmp_path, capsys, monkeypatch):
    from invad.cli import main

    def mistake(*arguments):
        monkeypatch.setattr(sys, "argv", ["invad-pipe", "serve", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line.removeprefix("invad-pipe: error: ")

    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        line = mistake(folder, "--port", port)
        assert line.startswith(f"--host 127.0.0.1 --port {port}: Address already in use")
    assert mistake(tmp_path / "none", "--port", 0).startswith(str(tmp_path / "none"))
    assert "bottle, cable" in mistake(folder, "--port", 0, "--class", "screw")
    assert mistake(folder, "--port", 0, "--host", "no such host").startswith("--host no such host --port 0: ")
    assert mistake(folder, "--threshold", "nan") == "thresholds: the one of images is nan; expected a finite number"
    assert "device" in mistake(folder, "--port", 0, "--device", "tpu")


# ---- the documentation

DOCS = (REPOSITORY / "docs/serving.md").read_text()


def commands(path):
    """The lines of a page that call curl, without the words behind them."""
    return re.findall(r"^curl .*?(?=\s*#|$)", (REPOSITORY / path).read_text(), re.MULTILINE)


def test_readme_and_documentation_say_how_to_send_a_picture():
    assert [len(commands("README.md")), len(commands("docs/serving.md"))] == [1, 2]
    assert {command.split()[1] for command in commands("docs/serving.md")} == {"-F", "--data-binary"}


@pytest.mark.parametrize("command", [*commands("README.md"), *commands("docs/serving.md")])
def test_a_command_of_the_documentation_works(client, tmp_path, command):
    words = shlex.split(command.replace("127.0.0.1:8000", f"127.0.0.1:{client.port}"))
    if shutil.which("curl") is None:
        pytest.skip("no curl in PATH")
    (path,) = re.findall(r"@(\S+)", command)
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_bytes(encoded(picture()))
    run = subprocess.run(
        [*words, "--silent", "--noproxy", "*"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (example,) = re.findall(r"^```json\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
    answer, example = json.loads(run.stdout), json.loads(example)
    assert list(answer) == list(example)
    assert list(answer["regions"][0]) == list(example["regions"][0])


def test_the_documentation_has_the_limits_that_hold():
    limits = Limits()
    assert f"`--max-bytes`, {limits.max_bytes // 10**6} MB" in DOCS
    assert f"`--max-pixels`, {limits.max_pixels // 10**6} million" in DOCS
    assert f"`--queue`, {limits.queue}" in DOCS and f"`--timeout`, {limits.timeout:g} s" in DOCS
    assert f"({limits.queue * limits.max_bytes / 1e9:.1f} GB)" in DOCS
    assert f"more than {CONNECTIONS} connections" in DOCS and f"`--batch-size` ({limits.batch_size})" in DOCS
    options = {parameter.name: parameter.default for parameter in signature(serve).parameters.values()}
    assert {name: options[name] for name in vars(limits)} == vars(limits)


# ---- the page, in a real browser


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Pictures to choose, by name."""
    folder = tmp_path_factory.mktemp("pictures")
    contents = {
        "noise.png": encoded(picture(3)),
        "grey.png": encoded(Image.new("RGB", (90, 60), "#808080")),
        "noise.tiff": encoded(picture(3), "TIFF"),
        "words.png": b"not an image",
        "large.png": bytes(400_001),
        "empty.png": b"",
        "<img src=x onerror=alert(1)>.png": encoded(picture(3)),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def tab(client, tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture
def page(tab, client):
    """The page freshly loaded on a desktop screen; checks afterwards that it asked for nothing but what it is made of."""
    tab.look(1280)
    tab.open(f"{client.address}/")
    until(tab, "document.getElementById('model').textContent.includes('toys')")
    yield tab
    assert [m for m in tab.messages if not m.startswith("Failed to load resource: the server responded with")] == []
    assert {address.partition(":")[0] for address in tab.requests} <= {"http", "data", "blob"}
    assert all(
        address.startswith((f"{client.address}/", "data:", f"blob:{client.address}/")) for address in tab.requests
    )


def until(tab, condition):
    for _ in range(200):
        if tab.run(f"return {condition}"):
            return
        time.sleep(0.05)
    raise AssertionError((condition, tab.run("return document.body.innerText"), tab.messages))


def choose(tab, path):
    """Choose a file, as in the dialog of the system."""
    root = tab.call("DOM.getDocument")["root"]["nodeId"]
    node = tab.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    tab.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)


def give(tab, kind, path):
    """Drop a file on the page, or paste it."""
    data = base64.b64encode(path.read_bytes()).decode()
    tab.run(
        f"const bytes = Uint8Array.from(atob({data!r}), (letter) => letter.charCodeAt(0)); const transfer = new DataTransfer();"
        f"transfer.items.add(new File([bytes], {path.name!r}, {{type: 'image/png'}}));"
        f"const event = {kind!r} === 'drop' ? new DragEvent('drop', {{dataTransfer: transfer, bubbles: true, cancelable: true}})"
        " : new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true}); document.body.dispatchEvent(event);"
    )


def result(tab):
    """What the page says, when it is there."""
    until(tab, "!document.getElementById('result').hidden && document.getElementById('busy').hidden")
    return tab.run("return document.getElementById('result').innerText")


def failure(tab):
    until(tab, "!document.getElementById('error').hidden && document.getElementById('busy').hidden")
    assert tab.run("return document.getElementById('result').hidden")
    return tab.run("return document.getElementById('reason').textContent")


@pytest.mark.parametrize("way", ["choose", "drop", "paste"])
def test_the_page_shows_what_the_service_says(page, files, client, way):
    answer = client.post((files / "noise.png").read_bytes()).json()
    if way == "choose":
        choose(page, files / "noise.png")
    else:
        give(page, way, files / "noise.png")
    text = result(page)
    assert f"Score {answer['score']:.4g}"[:10] in text and "threshold 1.070" in text
    assert ("Anomalous" if answer["anomalous"] else "Normal") in text
    count = len(answer["regions"])
    assert f"{count} region" in text and "noise.png, 96 × 80 pixels" in text  # noqa: RUF001
    rows = page.run(
        "return [...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((c) => c.textContent))"
    )
    assert len(rows) == min(count, 10)
    assert [int(value) for value in rows[0][1:]] == [*answer["regions"][0]["box"], answer["regions"][0]["area"]]
    until(page, "document.getElementById('picture').naturalWidth === 576")
    page.click("[value=picture]")
    until(page, "document.getElementById('picture').naturalWidth === 96")
    assert page.messages == []


def test_the_page_asks_again_when_the_class_changes(page, files):
    choose(page, files / "noise.png")
    assert "threshold 1.070." in result(page)
    page.run("document.getElementById('class').focus()")
    page.press("ArrowDown", 2)
    until(page, "document.getElementById('sentence').textContent.includes('not above the threshold 2.140 of cable.')")
    text = result(page)
    assert "✓ Normal" in text and "No regions" in text and "nowhere above its own threshold 2.100" in text
    assert page.run("return document.getElementById('regions').hidden")
    bar = page.run(
        "const [bar, mark] = document.getElementById('meter').children; return [bar.style.width, mark.style.left]"
    )
    assert bar[1] == "50%" and 0 < float(bar[0].rstrip("%")) < 50


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("words.png", "words.png: not an image (PNG, JPEG, BMP, TIFF or WebP), or a damaged one."),
        ("large.png", "large.png has 401 kB; at most 400 kB are accepted."),
        ("empty.png", "empty.png is empty, or a folder."),
    ],
)
def test_the_page_says_what_is_wrong(page, files, name, words):
    choose(page, files / name)
    assert failure(page) == words
    assert page.run("return document.getElementById('again').hidden")
    choose(page, files / "grey.png")
    assert "grey.png" in result(page) and page.run("return document.getElementById('error').hidden")


def test_what_is_dropped_but_no_file_is_explained(page):
    page.run("document.body.dispatchEvent(new DragEvent('drop', {dataTransfer: new DataTransfer(), bubbles: true}))")
    assert failure(page).startswith("That is no file.")


def test_the_page_says_so_when_it_has_to_wait_or_nobody_answers(tab, own, files):
    gate = Gate(own)
    with serving(own, Limits(queue=1)) as client, ThreadPoolExecutor(1) as clients:
        tab.look(1280)
        tab.open(f"{client.address}/")
        answer = clients.submit(client.alone, encoded(picture()))
        gate.wait_for(1)
        choose(tab, files / "noise.png")
        assert failure(tab) == "noise.png: the service has too much to do just now."
        gate.open()
        assert answer.result().status_code == 200
        tab.click("#again")
        assert "noise.png" in result(tab)
    choose(tab, files / "noise.png")
    assert failure(tab) == "The service does not answer."
    assert not tab.run("return document.getElementById('again').hidden")


def test_a_file_that_the_browser_cannot_show_has_its_heat_map(page, files):
    choose(page, files / "noise.tiff")
    assert "this browser cannot show the file itself" in result(page)
    assert page.run("return document.querySelector('[value=picture]').disabled")
    until(page, "document.getElementById('picture').naturalWidth === 576")


def test_a_name_is_never_markup(page, files):
    choose(page, files / "<img src=x onerror=alert(1)>.png")
    assert "<img src=x onerror=alert(1)>.png" in result(page)
    assert page.run("return document.images.length") == 1


def test_nothing_else_runs_or_loads_in_the_page(tab, client):
    tab.open(f"{client.address}/")
    tab.run(
        "const script = document.createElement('script'); script.textContent = 'window.ran = true'; document.body.append(script);"
        "const image = document.createElement('img'); image.src = 'http://192.0.2.1/x.png'; document.body.append(image);"
    )
    tab.call("Page.getLayoutMetrics")
    assert tab.run("return window.ran ?? false") is False
    blocked = [message for message in tab.messages if "Content Security Policy" in message]
    assert len(blocked) == 2 and any("192.0.2.1" in message for message in blocked)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_follows_the_colour_scheme(page, files, scheme):
    page.look(390, 844, scheme)
    choose(page, files / "noise.png")
    result(page)
    page.click("summary")
    assert page.run("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
    order = page.run(
        "return ['.summary', 'figure', '.details'].map((s) => document.querySelector(s).getBoundingClientRect().top)"
    )
    assert order == sorted(order)
    colours = page.run("const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]")
    assert colours == (
        ["rgb(255, 255, 255)", "rgb(27, 31, 36)"] if scheme == "light" else ["rgb(15, 19, 24)", "rgb(230, 237, 243)"]
    )


def test_the_page_is_used_by_keyboard(page, files):
    page.press("Tab")
    assert page.run("return document.activeElement.id") == "file"
    assert page.run("return getComputedStyle(document.querySelector('.drop')).outlineStyle") == "solid"
    page.press("Tab")
    assert page.run("return document.activeElement.id") == "class"
    choose(page, files / "noise.png")
    result(page)
    page.press("Tab")
    page.press("ArrowRight")
    assert page.run("return document.querySelector('[name=view]:checked').value") == "picture"
