"""The HTTP service within this process, without a network: what is refused, counted and computed, and where."""

import io
from contextlib import contextmanager

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prediction_toys import toy_model_folder
from prometheus_client.parser import text_string_to_metric_families

import invad
from invad.serving.app import create_app
from invad.serving.limits import Limits
from invad.serving.server import LOCAL_NAMES
from invad.serving.service import Service

PNG = {"Content-Type": "image/png"}


def encoded(kind="PNG", seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@contextmanager
def serving(predictor, limits=None):
    service = Service(predictor, "toys", limits or Limits())
    with TestClient(create_app(service, LOCAL_NAMES), "http://localhost", raise_server_exceptions=False) as client:
        client.service = service
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
    predictor.maps = lambda batch: np.where(
        np.arange(64) == 5, np.float32(value), np.ones((len(batch), 64, 64), np.float32)
    )
    with serving(predictor) as client:
        answer = client.post("/predict" + query, content=encoded(), headers=PNG)
        status, reason = refusal(answer)
        assert status == 500 and reason.startswith("image: the model gives it NaN or infinity as a score")
        decided = {key[1]: number for key, number in counts(client).items() if key[0] == "invad_images_total"}
    assert decided == {"anomalous": 0, "normal": 0, "undecided": 0}
