"""The HTTP service within this process, without a network: what is refused, counted and computed, and where."""

import asyncio
import io
import json
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient
from PIL import Image
from prediction_toys import toy_model_folder
from prometheus_client.parser import text_string_to_metric_families

import invad
from invad.predict.serve import Limits, service
from invad.predict.serve.app import create_app
from invad.predict.serve.server import LOCAL_NAMES
from invad.predict.serve.service import _DECODERS, Service

PNG = {"Content-Type": "image/png"}


def encoded(kind="PNG", seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@contextmanager
def serving(predictor, limits=None):
    app = create_app(Service(predictor, "toys", limits or Limits()), LOCAL_NAMES)
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_model_folder(tmp_path_factory.mktemp("service") / "toys")


@pytest.fixture(scope="module")
def client(folder):
    with serving(invad.load(folder, device="cpu")) as client:
        yield client


def counts(client):
    """(name, labels) -> value of everything that /metrics shows."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def refusal(answer):
    """Status and reason of an answer without a prediction."""
    assert list(answer.json()) == ["error"]
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("query", ["", "?heatmap=true", "?class=cable"])
def test_what_has_no_score_is_no_decision(folder, value, query):
    predictor = invad.load(folder, device="cpu")

    def maps(batch, views):
        maps = np.where(np.arange(64) == 5, np.float32(value), np.ones((len(batch), 64, 64), np.float32))
        return maps, maps.max((1, 2))

    predictor.maps = maps
    with serving(predictor) as client:
        answer = client.post("/predict" + query, content=encoded(), headers=PNG)
        status, reason = refusal(answer)
        assert status == 500 and reason.startswith("image: the model gives it NaN or infinity as a score")
        decided = {key[1]: number for key, number in counts(client).items() if key[0] == "invad_images_total"}
    assert decided == {"anomalous": 0, "normal": 0, "undecided": 0}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("class_name=wood", "class_name: Extra inputs are not permitted"),
        ("threshold=0.2", "threshold: Extra inputs are not permitted"),
        ("heatmap=true&Class=cable", "Class: Extra inputs are not permitted"),
        ("class=", "class: the model has the classes bottle, cable, not ''"),
    ],
)
def test_a_parameter_that_is_not_there_is_refused(client, query, reason):
    assert refusal(client.post(f"/predict?{query}", content=encoded(), headers=PNG)) == (400, reason)


def test_the_parameters_are_those_of_the_description(client):
    described = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["parameters"]
    assert [parameter["name"] for parameter in described] == ["heatmap", "class"]


@pytest.mark.parametrize(("path", "status"), [("/health", 200), ("/metrics", 200), ("/", 400), ("/openapi.json", 400)])
def test_probes_may_call_the_service_by_any_name(client, path, status):
    assert client.get(path, headers={"Host": "10.0.0.7:8000"}).status_code == status
    assert client.post("/predict", content=encoded(), headers={**PNG, "Host": "10.0.0.7"}).status_code == 400


@pytest.mark.parametrize("name", ["image/jpg", "IMAGE/PJPEG", "image/x-png", "application/octet-stream"])
def test_any_name_of_a_format_is_taken(client, name):
    assert client.post("/predict", content=encoded(), headers={"Content-Type": name}).status_code == 200


def form(*parts, boundary="b", end="--\r\n"):
    """A form, and its content type. parts: (head, data)."""
    body = b"".join(b"--%b\r\n%b\r\n\r\n%b\r\n" % (boundary.encode(), head, data) for head, data in parts)
    return body + f"--{boundary}{end}".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


HEAD = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png'


def score(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()["score"]


def test_an_image_may_be_the_only_field_of_a_form_or_come_without_a_content_type(client):
    expected = score(client.post("/predict", content=encoded(), headers=PNG))
    assert score(client.post("/predict", files={"anything": encoded()})) == expected
    bare = HEAD.partition(b"\r\n")[0]
    for boundary, given in (("b", bare), ("-" * 24 + "0a'()+_,./:=?", HEAD), ("x" * 70, HEAD)):
        body, headers = form((given, encoded()), boundary=boundary)
        assert score(client.post("/predict", content=body, headers=headers)) == expected
        quoted = {"Content-Type": f'Multipart/Form-Data; charset=utf-8; Boundary="{boundary}"'}
        assert score(client.post("/predict", content=b"preamble\r\n" + body + b"after it", headers=quoted)) == expected
    for content_type in ("application/x-www-form-urlencoded", ""):
        headers = {"Content-Type": content_type}
        assert score(client.post("/predict", content=encoded(), headers=headers)) == expected
    assert score(client.post("/predict", content=encoded())) == expected


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (*form((HEAD, encoded()), (HEAD, encoded())), "the form has several fields; expected an image alone"),
        (
            *form((HEAD, encoded()), (b"Content-Disposition: form-data; name=heatmap", b"true")),
            "the form has several fields",
        ),
        (*form(*[(HEAD, b"")] * 100_000), "the form has several fields"),
        (*form(), "the form is damaged, or empty"),
        (*form((HEAD, encoded()), end=""), "the form has several fields"),
        (*form((HEAD, b"")), "the form is damaged, or empty"),
        (b"--b\r\n\r\n--b--", form()[1], "the form is damaged"),
        (b"--c\r\n\r\nx\r\n--c--", form()[1], "the form is damaged, or empty"),
        (encoded(), form()[1], "the form is damaged, or empty"),
        (encoded(), {"Content-Type": "multipart/form-data"}, "Content-Type: multipart/form-data has no boundary"),
        (
            encoded(),
            {"Content-Type": "multipart/form-data; boundary="},
            "Content-Type: multipart/form-data has no boundary",
        ),
    ],
)
def test_a_form_that_is_not_one_image_is_refused(client, body, headers, reason):
    status, said = refusal(client.post("/predict", content=body, headers=headers))
    assert status == 400 and said.startswith(reason)


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data; boundary=b", "application/x-www-form-urlencoded", "", "text/plain"]
)
def test_what_a_page_of_another_site_could_send_is_refused(client, content_type):
    headers = {"Content-Type": content_type, "Origin": "http://evil.example"}
    status, reason = refusal(client.post("/predict", content=form((HEAD, encoded()))[0], headers=headers))
    assert (status, reason) == (415, "Content-Type: from a page, expected one of image/*, application/octet-stream")
    assert client.post("/predict", content=encoded(), headers={**PNG, "Origin": "http://localhost"}).status_code == 200


def test_answers_do_not_wait_behind_decodes_and_what_nobody_waits_for_is_not_decoded(folder, monkeypatch):
    predictor, decoded, gate = invad.load(folder, device="cpu"), [], threading.Event()
    read, body = service.image_of_bytes, encoded()
    blocked, computed, stream = threading.Event(), threading.Event(), predictor.stream

    def held(data, *rest):
        decoded.append(data)
        if data != body:
            assert gate.wait(20)
        return read(body, *rest)

    def network(images, size):
        computed.set()
        assert blocked.wait(20)  # until all decoders are busy
        return stream(images, size)

    monkeypatch.setattr(service, "image_of_bytes", held)
    predictor.stream = network

    async def ask(service):
        async with service.running(None):

            def post(data):
                return asyncio.create_task(service.predict(request_of(data), None, False))

            answered = post(body)
            await asyncio.to_thread(computed.wait, 20)
            slow = [post(b"slow") for _ in range(_DECODERS)]
            while decoded.count(b"slow") < _DECODERS:
                await asyncio.sleep(0.01)
            late = post(b"late")
            await asyncio.sleep(0.05)
            blocked.set()
            first = await answered
            late.cancel()  # as the time limit does
            await asyncio.wait([late])
            gate.set()
            return first, await asyncio.gather(*slow), await post(body)

    first, others, last = asyncio.run(ask(Service(predictor, "toys", Limits(batch_size=1))))
    assert {json.loads(answer)["score"] for answer in (first, *others)} == {json.loads(last)["score"]}
    assert decoded == [body, *[b"slow"] * _DECODERS, body]


def test_a_client_whose_body_does_not_come_holds_no_place(folder):
    async def ask(service):
        async with service.running(None):
            slow = asyncio.create_task(service.predict(request_of(b"part", more=True), None, False))
            await asyncio.sleep(0.05)
            assert not slow.done()
            answer = json.loads(await service.predict(request_of(encoded()), None, False))
            with pytest.raises(HTTPException, match="the body did not arrive within 1 s"):
                await slow
            return answer

    assert asyncio.run(ask(Service(invad.load(folder, device="cpu"), "toys", Limits(queue=1, timeout=1))))["score"] > 0


def test_bodies_that_are_coming_have_a_bound_together(folder):
    data = encoded()
    limits = Limits(max_bytes=len(data), queue=2, timeout=1)

    async def ask(service):
        async with service.running(None):
            slow = [
                asyncio.create_task(service.predict(request_of(data[:-9], more=True), None, False)) for _ in range(2)
            ]
            await asyncio.sleep(0.05)
            with pytest.raises(HTTPException, match="too many images are on their way") as refused:
                await service.predict(request_of(data), None, False)
            assert refused.value.status_code == 429
            await asyncio.wait(slow)
            return json.loads(await service.predict(request_of(data), None, False)), [task.exception() for task in slow]

    answer, refusals = asyncio.run(ask(Service(invad.load(folder, device="cpu"), "toys", limits)))
    assert answer["score"] > 0
    assert [refusal.status_code for refusal in refusals] == [408, 408]


def request_of(body, *, more=False):
    """A request as the service sees it; `more`: the rest of its body never comes."""
    parts = [{"type": "http.request", "body": body, "more_body": more}]

    async def receive():
        if not parts:
            await asyncio.sleep(60)
        return parts.pop()

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", b"image/png")]}, receive)


def test_a_picture_that_takes_too_long_is_refused_and_what_a_decoder_complains_of(client):
    data = encoded("JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    answer = client.post("/predict", content=data[:-2] + last * 1500 + data[-2:], headers=PNG)
    assert refusal(answer) == (422, "image: a JPEG of more than 40 scans; save it anew")
    score(client.post("/predict", content=data, headers=PNG))
