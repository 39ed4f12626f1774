"""ONNX Runtime in the place of PyTorch: when it is taken, why it is not, and which kept graphs are used."""

import json
import logging
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from fastapi.testclient import TestClient
from onnx import TensorProto, helper
from PIL import Image
from prediction_toys import toy_model_folder

import invad
from invad import cli
from invad.errors import InputError
from invad.predict import runtimes
from invad.predict.export import model as export_module
from invad.predict.runtimes import MANY, Kept, compare, onnx_runtime
from invad.predict.serve import Limits
from invad.predict.serve.app import create_app
from invad.predict.serve.service import Service

SIZE = 64
KEPT_GRAPH = export_module.kept_graph  # which most tests put something quick in the place of


def graph_of(value: float) -> bytes:
    """A graph of whose images every score is `value`, and every pixel of the maps."""
    ones = helper.make_tensor("ones", TensorProto.FLOAT, [1, SIZE, SIZE], np.full(SIZE * SIZE, value, np.float32))
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [3])
    last = helper.make_tensor("last", TensorProto.INT64, [2], [1, 2])
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        helper.make_node("Sub", ["means", "means"], ["zeros"]),
        helper.make_node("Add", ["zeros", "ones"], ["maps"]),
        helper.make_node("ReduceMax", ["maps", "last"], ["scores"], keepdims=0),
    ]
    given = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["batch", SIZE, SIZE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch"])
    graph = helper.make_graph(nodes, "constant", [given], [scores, maps], [ones, axes, last])
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    return toy_model_folder(tmp_path_factory.mktemp("runtimes") / "toys", thresholds=(1.0, 1.0))


@pytest.fixture
def graphs(monkeypatch, tmp_path) -> list[Kept]:
    """Graphs that are made, each a constant 1 as `by_torch` is then too; kept in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    graphs: list[Kept] = []

    def make(detector, by_torch) -> Kept:
        graphs.append(Kept(graph_of(1.0)))
        return graphs[-1]

    monkeypatch.setattr(export_module, "kept_graph", make)

    def ones(self, images, views=1):
        return np.ones(len(images), np.float32), np.ones(images.shape[:3], np.float32)

    monkeypatch.setattr(invad.predict.predictor.Predictor, "by_torch", ones)
    return graphs


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def files() -> list[Path]:
    return sorted(runtimes.cache_folder().iterdir())


@pytest.mark.slow
def test_the_graph_of_a_model_is_made_once_and_gives_what_torch_gives(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    first = invad.load(folder, device="cpu", runtime="onnx")
    monkeypatch.setattr(export_module, "kept_graph", None)
    again = invad.load(folder, device="cpu", runtime="auto")
    expected = invad.load(folder, device="cpu").predict(images(5))
    assert {image.runtime for image in expected} == {"torch"}
    one, other = first.predict(images(5)), again.predict(images(5))
    assert {image.runtime for image in (*one, *other)} == {"onnx"}
    assert one.maps.tobytes() == other.maps.tobytes()
    np.testing.assert_allclose(one.maps, expected.maps, rtol=0, atol=1e-4)
    np.testing.assert_allclose(one.scores, expected.scores, rtol=0, atol=1e-4)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_kept_graph_is_taken_until_model_settings_or_versions_are_others(folder, graphs, monkeypatch, tmp_path):
    for _ in range(2):
        assert invad.load(folder, device="cpu", runtime="auto").runtime == "onnx"
    assert (len(graphs), len(files())) == (1, 1)
    monkeypatch.setattr("onnxruntime.__version__", "0")
    invad.load(folder, device="cpu", runtime="auto")
    assert (len(graphs), len(files())) == (2, 2)
    other = toy_model_folder(tmp_path / "other", calibrated=False)  # the score's settings are others
    invad.load(other, device="cpu", runtime="auto")
    assert (len(graphs), len(files())) == (3, 3)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign", "of another model"])
def test_what_is_damaged_or_foreign_is_made_again(folder, graphs, damage, monkeypatch):
    invad.load(folder, device="cpu", runtime="auto")
    (path,) = files()
    whole = path.read_bytes()
    read: list[bytes] = []
    monkeypatch.setattr(runtimes, "onnx_runtime", lambda data: read.append(data) or onnx_runtime(data))
    wrong = {
        "truncated": whole[:-1],
        "flipped": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
        "empty": b"",
        "foreign": graph_of(2.0),
    }
    if damage in wrong:
        path.write_bytes(wrong[damage])
    else:  # whole, but about something else
        runtimes._write(path, b"{}", Kept(graph_of(2.0)))
    assert invad.load(folder, device="cpu", runtime="auto").runtime == "onnx"
    assert len(graphs) == 2
    assert path.read_bytes() == whole
    assert read == [graph_of(1.0)]


def test_a_place_nobody_may_write_to_costs_time_alone(folder, graphs, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", Path("relative")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        monkeypatch.chdir(tmp_path)
        assert invad.load(folder, device="cpu", runtime="onnx").runtime == "onnx"
    assert len(graphs) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_was_used_last_stays(folder, graphs, monkeypatch):
    described = [b'{"a": 1}', b'{"a": 2}', b'{"a": 3}']
    paths = [runtimes.cache_folder() / f"{number}.graph" for number in range(3)]
    monkeypatch.setattr(runtimes, "MOST_BYTES", 2500)
    for number in range(2):
        runtimes._write(paths[number], described[number], Kept(bytes(1000)))
        os.utime(paths[number], (number + 1, number + 1))
    assert runtimes._read(paths[0], described[0]) == Kept(bytes(1000))  # which is now the younger one
    runtimes._write(paths[2], described[2], Kept(bytes(1000)))
    assert files() == [paths[0], paths[2]]
    runtimes._write(paths[1], described[1], Kept(bytes(9000)))
    assert files() == [paths[1]]


def test_what_does_not_export_is_remembered_with_its_reason(folder, graphs, monkeypatch):
    def fail(graph):
        graphs.append(Kept(b""))
        raise RuntimeError("no such\noperator")

    monkeypatch.setattr(export_module, "kept_graph", KEPT_GRAPH)
    monkeypatch.setattr(export_module, "exported_program", fail)
    reason = "the model does not export (RuntimeError: no such operator)"
    for _ in range(2):
        predictor = invad.load(folder, device="cpu", runtime="auto")
        assert (predictor.runtime, predictor.why_torch) == ("torch", reason)
    with pytest.raises(InputError, match=r"^runtime onnx: the model does not export"):
        invad.load(folder, device="cpu", runtime="onnx")
    assert len(graphs) == 1


def test_a_graph_that_computes_something_else_is_not_taken(folder, graphs, monkeypatch):
    monkeypatch.setattr(export_module, "kept_graph", KEPT_GRAPH)
    monkeypatch.setattr(export_module, "exported_program", lambda graph: None)
    from invad.predict.export import onnx_file

    monkeypatch.setattr(onnx_file, "onnx_model", lambda program: onnx.ModelProto.FromString(graph_of(1.001)))
    predictor = invad.load(folder, device="cpu", runtime="auto")
    assert predictor.why_torch == "maps differ by 0.001, scores by 0.001, which is more than 0.0001"
    assert predictor.predict(images(1))[0].runtime == "torch"


def test_the_first_images_are_compared(folder, graphs, monkeypatch, caplog):
    kept = Kept(graph_of(1.001))
    monkeypatch.setattr(export_module, "kept_graph", lambda detector, by_torch: kept)
    predictor = invad.load(folder, device="cpu", runtime="auto")
    assert predictor.runtime == "onnx"
    with caplog.at_level(logging.WARNING):
        prediction = predictor.predict(images(2))
    assert [image.runtime for image in prediction] == ["torch", "torch"]
    assert prediction.scores.tolist() == [1, 1]
    assert [record.message for record in caplog.records] == [
        "runtime torch from here on: on the first images of ONNX Runtime maps differ by 0.001, scores by 0.001, which is more than 0.0001"
    ]
    strict = invad.load(folder, device="cpu", runtime="onnx")
    with pytest.raises(InputError, match=r"^runtime onnx: on the first images maps differ by 0.001"):
        strict.predict(images(2))


def test_only_the_first_images_are_computed_twice(folder, graphs, monkeypatch):
    seen = []

    def by_torch(self, given, views=1):
        seen.append(len(given))
        return np.ones(len(given), np.float32), np.ones(given.shape[:3], np.float32)

    monkeypatch.setattr(invad.predict.predictor.Predictor, "by_torch", by_torch)
    predictor = invad.load(folder, device="cpu", runtime="onnx")
    assert list(predictor.stream(images(20), 3))[19].runtime == "onnx"
    assert seen == [3, 3, 3]


def test_small_maps_are_compared_at_their_own_scale():
    def runtime(value: float):
        return lambda images: (np.full(1, value, np.float32), np.full((1, 4, 4), value, np.float32))

    batch = [np.zeros((1, 4, 4, 3), np.uint8)]
    assert compare(runtime(0.01), runtime(0.01005), batch).is_rounding
    assert not compare(runtime(0.01), runtime(0.01005), batch, least=0.0).is_rounding
    assert compare(runtime(-50), runtime(-50.004), batch, least=0.0).is_rounding


@pytest.mark.parametrize("missing", ["onnxruntime", "onnxscript"])
def test_without_the_extra_auto_is_torch_and_onnx_says_what_to_install(folder, monkeypatch, tmp_path, run, missing):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "invad.predict.export.onnx_file", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    predictor = invad.load(folder, device="cpu", runtime="auto")
    assert (predictor.runtime, predictor.why_torch) == ("torch", f"{missing} is not installed")
    code, err = run("--runtime", "onnx")
    assert (code, err.count("\n")) == (2, 1)
    assert err.endswith("pip install 'invad[export]'\n")


def test_settings_of_another_precision_stay_with_torch(folder, monkeypatch, tmp_path, run):
    settings = json.loads((folder / "config.json").read_text())
    settings["features"]["precision"] = "bfloat16"
    changed = tmp_path / "changed"
    changed.mkdir()
    for path in folder.iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    (changed / "config.json").write_text(json.dumps(settings))
    reason = "the model's settings have another precision than float32, or `compile`"
    assert invad.load(changed, device="cpu", runtime="auto").why_torch == reason
    code, err = run("--runtime", "onnx", model=changed)
    assert (code, err) == (2, f"invad-pipe: error: runtime onnx: {reason}; runtime torch computes every model\n")


def test_a_memory_that_is_too_large_and_another_device_stay_with_torch(folder, graphs, monkeypatch):
    monkeypatch.setattr(export_module, "MOST_MEMORY", -1)
    assert "a graph holds" in invad.load(folder, device="cpu", runtime="auto").why_torch
    predictor = invad.load(folder, device="cpu")
    predictor.device = torch.device("cuda:0")
    predictor.use_onnx(folder, must=False)
    assert predictor.why_torch == "ONNX Runtime is for the CPU, and the device is cuda:0"
    assert graphs == []


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Run `invad-pipe predict` on a folder with one image; return exit code and stderr without the progress bar."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Image.fromarray(images(1)[0]).save("images/0.png")

    def of(*options: str, model: Path = folder) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["invad-pipe", "predict", str(model), "images", "--device", "cpu", *options])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
        return int(ended.value.code or 0), "".join(
            f"{line}\n" for line in lines if line and not line.startswith("predict")
        )

    return of


def records() -> list[dict]:
    return [json.loads(line) for line in Path("predictions/predictions.jsonl").read_text().splitlines()]


def test_the_number_of_images_alone_decides_and_records_name_the_runtime(graphs, run, monkeypatch):
    asked = []
    load = invad.predict.predictor.load_predictor

    def spy(*given, runtime, **options):
        asked.append(runtime)
        return load(*given, runtime=runtime, **options)

    monkeypatch.setattr(invad.predict.predictor, "load_predictor", spy)
    for options, many, expected in (
        ((), MANY, "torch"),
        ((), 1, "onnx"),  # 1 image is as many as is worth it
        (("--runtime", "onnx"), MANY, "onnx"),
        ((), MANY, "torch"),  # although there is a kept graph now
        (("--runtime", "torch"), 1, "torch"),
    ):
        monkeypatch.setattr(runtimes, "MANY", many)
        assert run(*options) == (0, "")
        assert [record["runtime"] for record in records()] == [expected]
    assert asked == ["torch", "auto", "onnx", "torch", "torch"]
    Path("images/0.png").write_bytes(b"no image")
    assert run()[0] == 1
    assert [record["runtime"] for record in records()] == [None]


def test_a_service_says_what_computes(folder, graphs, monkeypatch, capsys):
    served = []
    monkeypatch.setattr("invad.predict.serve.server.run", lambda service, *rest: served.append(service))
    for runtime, said in (("auto", "cpu, onnx ("), ("torch", "cpu, torch (end")):
        monkeypatch.setattr(sys, "argv", ["invad-pipe", "serve", str(folder), "--port", "0", "--runtime", runtime])
        if runtime == "auto":
            sys.argv = sys.argv[:-2]
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        assert said in capsys.readouterr().err
    assert [service.health()["runtime"] for service in served] == ["onnx", "torch"]
    predictor = invad.load(folder, device="cpu", runtime="auto")
    with TestClient(create_app(Service(predictor, "toys", Limits()), None), "http://localhost") as client:
        path = runtimes.cache_folder().parents[1] / "a.png"
        Image.fromarray(images(1)[0]).save(path)
        answer = client.post("/predict", content=path.read_bytes()).json()
    assert (answer["runtime"], answer["score"]) == ("onnx", 1.0)


def test_a_service_that_must_have_onnx_ends_with_one_line(folder, graphs, monkeypatch, capsys):
    monkeypatch.setattr(
        export_module, "kept_graph", lambda detector, by_torch: Kept(b"", "the model does not export (x)")
    )
    monkeypatch.setattr(sys, "argv", ["invad-pipe", "serve", str(folder), "--port", "0", "--runtime", "onnx"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    line = "invad-pipe: error: runtime onnx: the model does not export (x); runtime torch computes every model\n"
    assert capsys.readouterr().err == line
