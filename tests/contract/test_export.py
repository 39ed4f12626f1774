"""Exports: other runtimes compute what `invad.load` computes, the file says all that they need, and what must not be in it is not."""

import io
import json
import re
import shlex
import subprocess
import sys
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from benchmark_scripts import HARDWARE_KEYS, script
from conftest import REPOSITORY
from PIL import Image
from prediction_toys import toy_model_folder
from torch import nn
from torch.nn import functional

import invad
from invad import __version__
from invad.cli import main
from invad.config import FeaturesConfig, InvADConfig, PatchCoreConfig, RDConfig, ScoreConfig, TrainConfig
from invad.data.images import read_image
from invad.errors import InputError
from invad.features.encoder import Encoder, build_encoder
from invad.methods import EncoderOutput, build_method
from invad.predict.detector import Detector
from invad.predict.export import model as export_module
from invad.predict.export import onnx_file
from invad.predict.export.model import (
    Graph,
    export_model,
    exported_program,
    load_graph,
    random_batches,
    torch_bytes,
    torch_runtime,
)
from invad.predict.export.onnx_file import onnx_bytes, onnx_model
from invad.predict.runtimes import compare, onnx_runtime
from invad.training.model_folder import read_config, save_model

SIZE = 32
SMALL = {"blocks": 1, "style_channels": 4, "latent_channels": 4}
VARIANTS = {
    "invad-global-sum": (
        InvADConfig(modulation="global", modulation_terms="gamma", normalisation="instance", **SMALL),
        ScoreConfig(map_levels="sum", sigma=1.5),
    ),
    "invad-none-fine-l2": (
        InvADConfig(modulation="none", normalisation="batch", **SMALL),
        ScoreConfig(map_levels="fine", map_distance="l2", sigma=0.0),
    ),
    "rd": (RDConfig(), ScoreConfig()),
}
PAGE = (REPOSITORY / "docs/export.md").read_text()
BATCHES = (1, 3, 8)


class TinyNetwork(nn.Module):
    """Three convolutions in the place of an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = SimpleNamespace(channels=lambda: [8, 12, 16], reduction=lambda: [4, 8, 16])
        layers = (nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 12, 2, 2), nn.Conv2d(12, 16, 2, 2))
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        levels = []
        for layer in self.layers:
            x = functional.relu(layer(x))
            levels.append(x)
        return levels


def tiny(train: TrainConfig, score: ScoreConfig) -> tuple[Graph, Detector]:
    """The graph of a tiny model of random weights, and the detector that `invad.load` would make of it."""
    torch.manual_seed(0)
    encoder = Encoder("tiny", TinyNetwork())
    method = build_method(EncoderOutput("tiny", encoder.channels, SIZE), train).eval()
    features = FeaturesConfig("mobilenetv2_100", "none", image_size=SIZE)
    detector = Detector(encoder, method, features, score).eval()
    return Graph(detector).eval(), detector


@cache
def translated(name: str) -> tuple[Graph, Detector, onnx.ModelProto]:
    graph, detector = tiny(*VARIANTS[name])
    return graph, detector, onnx_model(exported_program(graph))


def noise(images: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(images).integers(0, 256, (images, size, size, 3), np.uint8)


def assert_agree(run, predict, images: np.ndarray) -> None:
    """Scores and maps of a runtime are those of the model within 1e-4, and of the promised types and shapes."""
    scores, maps = run(images)
    expected, expected_scores = predict(images)
    assert (scores.dtype, maps.dtype) == (np.float32, np.float32)
    assert maps.shape == expected.shape
    np.testing.assert_allclose(maps, expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder in which every command of docs/export.md has been run; they share what takes long, tracing and translating the graph."""
    root = tmp_path_factory.mktemp("export")
    toy_model_folder(root / "models/mvtec")

    def once(function):
        results = []

        def first(argument):
            if not results:
                results.append(function(argument))
            return results[0]

        return first

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(export_module, "exported_program", once(exported_program))
        patch.setattr(onnx_file, "onnx_model", once(onnx_model))
        for line in re.search(r"```bash\n(.*?)```", PAGE, re.DOTALL)[1].splitlines():
            patch.setattr(sys, "argv", shlex.split(line))
            assert exit_code() == 0
    return root


@pytest.fixture(scope="module")
def predictor(workplace):
    return invad.load(workplace / "models/mvtec", device="cpu")


@pytest.fixture(scope="module")
def session(workplace):
    return onnx_runtime((workplace / "exports/mvtec.onnx").read_bytes())


def run_pipe(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["invad-pipe", "export", *words])
    return exit_code()


def exit_code() -> int:
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


@pytest.mark.parametrize("images", BATCHES)
def test_onnx_runtime_agrees_with_python(session, predictor, images):
    assert_agree(session, predictor.maps, noise(images, predictor.image_size))


@pytest.mark.parametrize("images", BATCHES)
def test_onnx_runtime_agrees_with_python_on_real_images(session, predictor, real_data, images):
    paths = sorted((real_data / "mvtec_leather_slice/test").rglob("*.png"))[:images]
    assert_agree(session, predictor.maps, np.stack([read_image(path, predictor.image_size) for path in paths]))


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.slow
def test_every_method_and_map_exports(name):
    _, detector, model = translated(name)
    run = onnx_runtime(onnx_bytes(model, {}))
    with torch.no_grad():
        for images in BATCHES:
            assert_agree(
                run, lambda images: [part.numpy() for part in detector(torch.from_numpy(images))], noise(images)
            )


def test_the_graph_is_plain_onnx_in_float32_with_a_free_batch(workplace):
    path = workplace / "exports/mvtec.onnx"
    proto = onnx.load(path, load_external_data=False)  # whose weights are all in the file
    onnx.checker.check_model(proto, full_check=True)
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.input, *proto.graph.output)
    }
    assert shapes == {"images": ["batch", 64, 64, 3], "scores": ["batch"], "maps": ["batch", 64, 64]}
    assert {node.domain for node in proto.graph.node} == {""}
    assert not proto.functions
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    types = {value.type.tensor_type.elem_type for value in inferred.value_info}
    types |= {tensor.data_type for tensor in inferred.initializer}
    assert onnx.TensorProto.DOUBLE not in types
    assert not any(tensor.external_data for tensor in proto.graph.initializer)


def test_metadata_are_complete_and_those_of_the_calibration(workplace, predictor):
    def onnx_metadata(name: str) -> dict[str, object]:
        proto = onnx.load(workplace / "exports" / name)
        return {entry.key: json.loads(entry.value) for entry in proto.metadata_props}

    with zipfile.ZipFile(workplace / "exports/mvtec.pt2") as archive:
        of_torch = json.loads(archive.read("archive/extra/metadata.json"))
    values = onnx_metadata("mvtec.onnx")
    calibration = predictor.calibration
    assert of_torch == values
    assert values["image_threshold"] == calibration.all.image_threshold
    assert values["pixel_threshold"] == calibration.all.pixel_threshold
    assert values["class_thresholds"] == {
        name: {"image_threshold": held_out.image_threshold, "pixel_threshold": held_out.pixel_threshold}
        for name, held_out in calibration.per_class.items()
    }
    assert values["false_positive_rate"] == calibration.false_positive_rate
    assert values["sigma"] == calibration.score.sigma
    assert (values["image_size"], values["colour_order"], values["normalisation_inside"]) == (64, "RGB", True)
    assert values["resize"]["pillow"] == "Image.Resampling.BILINEAR"
    assert (values["benchmark"], values["classes"]) == ("toys", ["bottle", "cable"])
    assert (values["invad_version"], values["encoder_sha256"]) == (__version__, predictor.config.encoder_sha256)
    named = {key for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}
    assert set(values) == named, "docs/export.md lists all keys"


def test_the_mean_and_std_are_those_that_the_graph_subtracts(session, workplace):
    proto = onnx.load(workplace / "exports/mvtec.onnx")
    values = {entry.key: json.loads(entry.value) for entry in proto.metadata_props}
    constants = [onnx.numpy_helper.to_array(tensor).ravel() for tensor in proto.graph.initializer]
    for key in ("mean", "std"):
        assert any(constant.size == 3 and np.allclose(constant, values[key]) for constant in constants), key


def test_no_path_and_no_stack_trace_is_in_a_file(workplace):
    for path in sorted((workplace / "exports").iterdir()):
        data = path.read_bytes()
        assert path.suffix != ".pt2" or zipfile.is_zipfile(path)
        for secret in (str(workplace), str(REPOSITORY), str(Path.home()), str(Path(sys.prefix)), ".py", 'File "'):
            if secret != "/":
                assert secret.encode() not in data, f"{path.name} has {secret}"


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes():
    graph, _, model = translated("invad-none-fine-l2")
    first, again = (exported_program(graph) for _ in range(2))
    assert torch_bytes(first, {"a": "1"}) == torch_bytes(again, {"a": "1"})
    assert onnx_bytes(onnx_model(again), {"a": "1"}) == onnx_bytes(model, {"a": "1"})


def test_torch_export_agrees_for_every_batch(workplace, predictor):
    module = torch.export.load(workplace / "exports/mvtec.pt2").module()
    for images in BATCHES:
        assert_agree(torch_runtime(module), predictor.maps, noise(images, predictor.image_size))


def test_a_pt2_holds_no_pickle_but_its_example(workplace):
    with zipfile.ZipFile(workplace / "exports/mvtec.pt2") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    of_torch_save = [name for name, data in contents.items() if zipfile.is_zipfile(io.BytesIO(data))]
    assert of_torch_save == ["archive/data/sample_inputs/model.pt"], "docs/export.md says that it is the only one"
    configs = [json.loads(data)["config"] for name, data in contents.items() if name.endswith("_config.json")]
    assert len(configs) == 2, "of weights and of constants"
    assert not any(entry["use_pickle"] for config in configs for entry in config.values())


def test_an_uncalibrated_model_exports_without_thresholds(workplace, tmp_path, monkeypatch, capsys):
    graph, _, model = translated("invad-global-sum")
    monkeypatch.setattr(export_module, "load_graph", lambda folder: graph)
    monkeypatch.setattr(export_module, "load_calibration", lambda folder: None)
    monkeypatch.setattr(export_module, "exported_program", lambda graph: None)
    monkeypatch.setattr(onnx_file, "onnx_model", lambda program: model)
    out = tmp_path / "deep/er/a.onnx"
    assert run_pipe(monkeypatch, str(workplace / "models/mvtec"), "--out", str(out)) == 0
    assert "maps differ by at most" in capsys.readouterr().out
    values = {entry.key: json.loads(entry.value) for entry in onnx.load(out).metadata_props}
    assert (values["image_threshold"], values["pixel_threshold"], values["class_thresholds"]) == (None, None, {})


def test_a_file_that_computes_something_else_is_not_written(workplace, tmp_path, monkeypatch):
    graph, _, model = translated("invad-global-sum")
    monkeypatch.setattr(export_module, "load_graph", lambda folder: graph)
    monkeypatch.setattr(export_module, "exported_program", lambda graph: None)
    monkeypatch.setattr(onnx_file, "onnx_model", lambda program: model)
    right = export_module.onnx_runtime
    out = tmp_path / "a.onnx"
    out.write_bytes(b"old")
    for wrong in (1e-3, float("nan")):
        monkeypatch.setattr(
            export_module,
            "onnx_runtime",
            lambda data, wrong=wrong: lambda images: tuple(part + np.float32(wrong) for part in right(data)(images)),
        )
        with pytest.raises(InputError, match=r"a\.onnx: not written, because it would not compute"):
            export_model(workplace / "models/mvtec", out)
        assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]
        assert out.read_bytes() == b"old"


def test_rounding_is_relative_to_large_maps_only():
    batches = [np.zeros((2, 4, 4, 3), np.uint8)]

    def runtime(value: float, score: float | None = None):
        return lambda images: (
            np.full(len(images), value if score is None else score, np.float32),
            np.full((len(images), 4, 4), value, np.float32),
        )

    assert compare(runtime(0.5), runtime(0.50009), batches).is_rounding
    assert not compare(runtime(0.5), runtime(0.5002), batches).is_rounding
    assert compare(runtime(100.0), runtime(100.009), batches).is_rounding
    assert not compare(runtime(0.5), runtime(0.5, score=0.6), batches).is_rounding
    assert not compare(runtime(0.5), runtime(0.5, score=float("nan")), batches).is_rounding
    assert {len(batch) for batch in random_batches(4)} == {1, 3}


def test_a_memory_that_is_too_large_for_a_graph_is_refused(workplace, tmp_path, monkeypatch, capsys):
    method = build_method(EncoderOutput("mobilenetv2_100", (24, 32, 96), 64), PatchCoreConfig(dimensions=8))
    method.memory = torch.zeros(100, 8)
    features = FeaturesConfig("mobilenetv2_100", "none", image_size=64)
    config = replace(read_config(workplace / "models/mvtec"), train=method.config, features=features)
    folder = tmp_path / "bank"
    save_model(method, config, folder, build_encoder("mobilenetv2_100", "none"))
    assert load_graph(folder).image_size == 64
    monkeypatch.setattr(export_module, "MOST_MEMORY", 3_199)
    assert run_pipe(monkeypatch, str(folder), "--out", str(tmp_path / "a.onnx")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        f"invad-pipe: error: {folder}: the memory of patchcore has 0 MB, and a graph holds 0 MB at most; "
    )
    assert not (tmp_path / "a.onnx").exists()


def test_mistakes_are_one_line(workplace, tmp_path, monkeypatch, capsys):
    model, out = str(workplace / "models/mvtec"), tmp_path / "a.onnx"
    out.write_bytes(b"old")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text("{}")
    for words, message in (
        ((model, "--out", str(out)), f"{out}: exists; --force replaces it"),
        ((model, "--out", str(tmp_path)), f"--out {tmp_path}: expected a name that ends with .onnx"),
        ((model, "--out", "a.onnx", "--format", "torch-export"), "--out a.onnx: expected a name that ends with .pt2"),
        ((str(tmp_path / "none"), "--out", "b.onnx"), f"{tmp_path / 'none'}: no model folder"),
        ((str(damaged), "--out", "b.onnx"), f"{damaged / 'config.json'}: "),
    ):
        monkeypatch.chdir(tmp_path)
        assert run_pipe(monkeypatch, *words) == 2
        printed = capsys.readouterr().err
        assert printed.startswith(f"invad-pipe: error: {message}")
        assert printed.count("\n") == 1
        assert not (tmp_path / "b.onnx").exists()
    assert out.read_bytes() == b"old"
    assert run_pipe(monkeypatch, model, "--format", "tflite") == 2
    printed = capsys.readouterr().err
    assert "tflite" in printed
    assert "torch-export" in printed


def test_a_missing_extra_is_named_at_once(workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "invad.predict.export.onnx_file")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert run_pipe(monkeypatch, str(workplace / "models/mvtec")) == 2
    assert "pip install 'invad[export]'" in capsys.readouterr().err


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_script_of_the_page_decides_as_python_does_without_this_package(workplace, predictor):
    script = workplace / "decide.py"
    loaded_modules = "\nassert not {'torch', 'invad', 'onnx'} & set(sys.modules)\n"
    script.write_text(python_blocks()[0] + loaded_modules)
    rng, paths = np.random.default_rng(5), []
    for number, size in enumerate(((80, 64), (64, 96), (200, 120), (64, 64))):
        grey = rng.integers(0, 256, (*size, 3), np.uint8) if number % 2 else np.full((*size, 3), 90, np.uint8)
        paths.append(workplace / f"{number}.png")
        Image.fromarray(grey).save(paths[-1])
    command = [sys.executable, script, "exports/mvtec.onnx", *paths]
    result = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=True)
    expected = predictor.predict(paths)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[1] for row in rows] == ["anomalous" if image.anomalous else "normal" for image in expected]
    assert {row[1] for row in rows} == {"anomalous", "normal"}, "the images have to differ in that"
    np.testing.assert_allclose([float(row[2]) for row in rows], expected.scores, atol=1e-4)
    assert sum(bool(line.strip()) for line in python_blocks()[0].splitlines()) <= 25


def test_the_page_loads_a_pt2(workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    names: dict[str, object] = {}
    exec(compile(python_blocks()[1], "docs/export.md", "exec"), names)
    assert names["maps"].shape == (4, 64, 64)
    assert names["scores"].shape == (4,)


@pytest.mark.slow
def test_the_benchmark_of_runtimes_writes_what_its_table_shows(tmp_path, monkeypatch, capsys):
    benchmark, threads = script("export"), torch.get_num_threads()
    options = (
        "--encoder mobilenetv2_100 --model invad --vectors 9 --dimensions 8 --blocks 1 --image-size 32 --batches 1,2 "
    )
    options += "--ways torch,bfloat16 --rounds 2 --threads 1"
    monkeypatch.setattr(sys, "argv", ["export.py", *options.split(), "--out", str(tmp_path)])
    benchmark.main()
    torch.set_num_threads(threads)
    text = (tmp_path / "export_mobilenetv2_100_cpu.md").read_text()
    result = json.loads((tmp_path / "export_mobilenetv2_100_cpu.json").read_text())
    assert capsys.readouterr().out.strip() == text.strip()
    assert (result["benchmark"], result["command"]) == ("export", f"python benchmarks/export.py {options}")
    assert set(result["hardware"]) == HARDWARE_KEYS
    assert list(result["ways"]) == ["torch", "bfloat16"]
    for way in result["ways"].values():
        assert list(way["batches"]) == ["1", "2"]
        assert len(way["batches"]["2"]["all_s"]) == 2
        assert way["batches"]["2"]["images_per_s"] == pytest.approx(2 / way["batches"]["2"]["median_s"])
        assert f"| {way['label']} " in text
    assert str(tmp_path) not in text + json.dumps(result)


def test_a_median_of_turns_counts_and_the_first_run_does_not():
    turns = [{"seconds": seconds, "cpu_seconds": 2 * seconds} for seconds in (1.0, 9.0, 2.0)]
    summary = script("export").summary(8, {"seconds": 100.0}, turns)
    assert (summary["median_s"], summary["images_per_s"], summary["cpu_s"], summary["first_s"]) == (2, 4, 4, 100)
