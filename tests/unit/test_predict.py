"""`invad-pipe predict` and the Python interface: which images, what is said of them, what is written, what is refused."""

import csv
import hashlib
import io
import json
import math
import os
import shutil
import signal
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import image_bytes, save_image
from PIL import Image
from prediction_toys import toy_model_folder
from safetensors.torch import load_file, save_file
from scipy import ndimage
from toys import image_split

import invad
from invad import cli
from invad.config import ReadingConfig
from invad.data.split_table import Split
from invad.errors import InputError
from invad.features import extract_features, open_features
from invad.features.batches import BatchSource
from invad.metrics.calibration import Thresholds
from invad.predict import job as job_module
from invad.predict.detector import Detector
from invad.predict.job import Job
from invad.predict.predictions import (
    ImagePrediction,
    draw_overlay,
    find_regions,
    map_at_size,
    overlay_picture,
)
from invad.predict.predictor import Predictor
from invad.predict.sources import find_images
from invad.scoring.score import predictions
from invad.training.model_folder import load_model, save_model

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own

SIZE = 64  # of the model's input
IMAGE, PIXEL = 1.06, 1.0  # thresholds, amid the values of noise


def noise(seed: int, width: int = SIZE, height: int = SIZE) -> Image.Image:
    """A picture that the toy model finds regions in."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def save_noise(path: Path, seed: int, width: int = SIZE, height: int = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(seed, width, height).save(path)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return toy_model_folder(tmp_path_factory.mktemp("models") / "toy", thresholds=(IMAGE, PIXEL))


@pytest.fixture(scope="session")
def predictor(model) -> Predictor:
    return invad.load(model, device="cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder, which becomes the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def images(folder) -> Path:
    """Seven images of other sizes, in two folders."""
    for number in range(7):
        save_noise(folder / f"images/{'a' if number < 4 else 'b'}/{number}.png", number, 50 + 10 * number, 70)
    return folder / "images"


@pytest.fixture
def run(folder, model, monkeypatch, capsys):
    """Run `invad-pipe predict` with the toy model in this process; return exit code, stdout and stderr without the progress bar."""

    def of(*arguments: str, model: Path = model) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["invad-pipe", "predict", str(model), *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        err = "".join(
            line + "\n" for line in err.replace("\r", "\n").splitlines() if line and not line.startswith("predict: ")
        )
        return int(exit_.value.code or 0), out, err

    return of


@pytest.fixture
def mistake(run, folder):
    """Run the command, which must refuse and write nothing, and return its message."""

    def of(*arguments: str, **options) -> str:
        code, out, err = run(*arguments, **options)
        assert (code, out) == (2, "")
        assert err.startswith("invad-pipe: error: ")
        assert err.count("\n") == 1
        assert not (folder / "predictions").exists()
        return err.removeprefix("invad-pipe: error: ").strip()

    return of


def read_jsonl(path: Path = Path("predictions/predictions.jsonl")) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def files_below(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


# ---------------------------------------------------------------- which images


@pytest.fixture
def tree(folder) -> Path:
    """Files of all kinds; what is no image by its name, or hidden, has no place among the images of a folder."""
    for name in (
        "b.JPG",
        "a.png",
        "sub/c.tiff",
        "sub/deep/d.bmp",
        "x.png/e.jpeg",
        ".hidden.png",
        ".git/f.png",
        "sub/readme.txt",
    ):
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "tree/linked").symlink_to(folder / "tree/sub")
    return folder / "tree"


def found(*inputs: str, out: Path | None = None) -> list[str]:
    return [image.path.as_posix() for image in find_images(inputs, out).images]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["tree"], ["a.png", "b.JPG", "sub/c.tiff", "sub/deep/d.bmp", "x.png/e.jpeg"]),
        (["tree/sub/readme.txt", "tree/.hidden.png"], ["sub/readme.txt", ".hidden.png"]),  # who names a file means it
        (["tree/linked"], ["linked/c.tiff", "linked/deep/d.bmp"]),
        # each image once, where it comes first
        (["tree/sub", "tree"], ["sub/c.tiff", "sub/deep/d.bmp", "a.png", "b.JPG", "x.png/e.jpeg"]),
        (["tree", "tree/sub", "tree/a.png"], ["a.png", "b.JPG", "sub/c.tiff", "sub/deep/d.bmp", "x.png/e.jpeg"]),
        (["tree/b.JPG", "./tree/../tree/b.JPG"], ["b.JPG"]),
        (
            ["tree", "tree/.hidden.png", "tree/.git"],
            ["a.png", "b.JPG", "sub/c.tiff", "sub/deep/d.bmp", "x.png/e.jpeg", ".hidden.png", ".git/f.png"],
        ),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else None,
)
def test_inputs_are_images_in_order_and_each_once(tree, inputs, expected):
    assert found(*inputs) == [f"tree/{name}" for name in expected]


def test_files_of_other_formats_are_counted_by_suffix_and_each_once(tree):
    for name in ("1.heic", "2.HEIC", "sub/3.heic", "sub/4"):
        (tree / name).write_bytes(b"x")
    assert find_images([str(tree), str(tree / "sub"), str(tree / "a.png")]).passed_over == (
        "3 .heic, 1 without a suffix, 1 .txt"
    )
    other = tree / "other"
    other.mkdir()
    (other / "1.heic").write_bytes(b"x")
    with pytest.raises(InputError, match=r"other: has no images \(.*\), but 1 \.heic"):
        find_images([str(other)])


def test_the_command_says_what_it_has_passed_over(images, run):
    for number in range(3):
        (images / f"a/{number}.avif").write_bytes(b"x")
    code, _, err = run("images/a", "--no-overlays")
    assert (code, err) == (0, "invad-pipe: passed over, formats that are not read: 3 .avif\n")


def test_what_is_written_is_not_read_again(tree):
    everything = found("tree")
    for name in ("out/overlays/a.png.png", "out/other.png"):
        save_image(tree / name)
    assert found("tree", out=tree / "out") == everything
    assert found("tree", "tree/out/other.png", out=tree / "out") == [*everything, "tree/out/other.png"]
    assert found("tree/out", out=tree / "out") == ["tree/out/other.png"]  # an input that is the output folder
    with pytest.raises(InputError, match=r"^tree/out/overlays/a\.png\.png: lies in the folder that overlays are "):
        found("tree/out/overlays/a.png.png", out=tree / "out")


def test_no_two_images_share_an_overlay(folder):
    names = ["x.png", "x.jpg", "a/x.png", "b/x.png"]
    for name in names:
        save_image(folder / "in" / name)
    sources = find_images(["in"])
    overlays = sorted(sources.overlay_name(image) for image in sources.images)
    assert overlays == sorted(f"overlays/{name}.png" for name in names)


def test_overlays_lie_as_the_images_below_the_deepest_folder_that_all_share(tree):
    sources = find_images(["tree/sub/deep/d.bmp", "tree/sub/c.tiff"])
    assert [sources.overlay_name(image) for image in sources.images] == [
        "overlays/deep/d.bmp.png",
        "overlays/c.tiff.png",
    ]
    only = find_images(["tree/sub/deep/d.bmp"])
    assert [only.overlay_name(image) for image in only.images] == ["overlays/d.bmp.png"]


# ---------------------------------------------------------------- the order of the work


@pytest.mark.slow
def test_few_images_are_in_memory_at_a_time(folder, predictor, monkeypatch):
    for number in range(40):
        save_noise(folder / f"in/{number:02}.png", number)
    read, inside, most = job_module.rgb_image, [], []
    finish = Job._finish

    def reading(path: Path, how: ReadingConfig) -> Image.Image:
        inside.append(path)
        most.append(len(inside))
        return read(path, how)

    def finishing(*arguments) -> dict:
        record = finish(*arguments)
        inside.pop()
        return record

    monkeypatch.setattr(job_module, "rgb_image", reading)
    monkeypatch.setattr(Job, "_finish", finishing)
    job = Job(predictor, find_images(["in"]), folder / "out", overlays=False)
    assert job.run(batch_size=3, workers=2).images == 40
    assert 3 < max(most) <= 2 * 3 + 3 * 2 + 2


@pytest.mark.slow
def test_workers_and_inputs_on_the_way_change_no_byte(images, run):
    for workers in ("1", "5"):
        assert run("images", "--out", workers, "--workers", workers, "--batch-size", "3")[0] == 0
    names = files_below(Path("1"))
    assert len(names) == 8
    assert names == files_below(Path("5"))
    for name in names:
        assert Path("1", name).read_bytes() == Path("5", name).read_bytes()


# ---------------------------------------------------------------- what is written


def test_json_lines_are_what_the_python_interface_says(images, run, predictor):
    code, out, err = run("images/b", "images/a")
    assert (code, err) == (0, "")
    records = read_jsonl()
    paths = [f"images/b/{n}.png" for n in (4, 5, 6)] + [f"images/a/{n}.png" for n in range(4)]
    assert [record["image"] for record in records] == paths
    anomalous = sum(record["anomalous"] for record in records)
    written = "predictions/predictions.jsonl, predictions/overlays"
    assert out == f"7 images, {anomalous} anomalous, 0 failed: {written}\n"
    expected = predictor.predict(paths)
    assert 0 < len(expected[0].regions()) < 100
    for record, prediction in zip(records, expected, strict=True):
        regions = [{"box": [*each.box], "area": each.area, "score": each.score} for each in prediction.regions()]
        assert record["score"] == pytest.approx(prediction.score, abs=1e-5)  # batches of another size round differently
        assert [region["box"] for region in record["regions"]] == [region["box"] for region in regions]
        assert record["anomalous"] == (record["score"] > IMAGE)
        assert Image.open(Path("predictions", record["overlay"])).mode == "RGB"
        assert (record["width"], record["height"]) == Image.open(record["image"]).size
        assert (record["class"], record["image_threshold"], record["pixel_threshold"]) == (None, IMAGE, PIXEL)
        assert record["error"] is None
    assert files_below(Path("predictions/overlays")) == sorted(f"{path[len('images/') :]}.png" for path in paths)


def test_csv_has_a_row_for_each_image(images, run):
    run("images", "--no-overlays")
    (images / "b/7.png").write_text("no image")
    assert run("images", "--format", "csv", "--no-overlays")[0] == 1
    assert files_below(Path("predictions")) == ["predictions.csv", "predictions.jsonl"]
    with Path("predictions/predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    assert rows[7]["error"].startswith("not an image")
    assert {rows[7][key] for key in ("score", "anomalous", "regions", "area", "overlay")} == {""}
    for row, record in zip(rows[:7], read_jsonl(), strict=True):
        largest = max(record["regions"], key=lambda region: region["area"])
        for key in ("image", "width", "height", "score", "image_threshold", "pixel_threshold"):
            assert row[key] == str(record[key])
        assert row["anomalous"] == ("true" if record["anomalous"] else "false")
        assert int(row["regions"]) == len(record["regions"])
        assert int(row["area"]) == sum(region["area"] for region in record["regions"])
        assert [int(row[f"largest_{key}"]) for key in ("x", "y", "width", "height")] == largest["box"]
        assert int(row["largest_area"]) == largest["area"]


def test_records_go_to_stdout_as_they_come(images, run, folder):
    code, out, err = run("images/a", "--out", "-")
    assert code == 0
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["image"] for record in records] == [f"images/a/{n}.png" for n in range(4)]
    assert records[0]["overlay"] is None
    assert err.startswith("4 images, ")
    code, out, _ = run("images/a", "--out", "-", "--format", "csv")
    assert code == 0
    assert [row["image"] for row in csv.DictReader(io.StringIO(out))] == [record["image"] for record in records]
    assert [path.name for path in folder.iterdir()] == ["images"]


@pytest.mark.slow
def test_thresholds_are_those_of_the_class_or_the_callers(images, run, tmp_path):
    def first(*arguments: str) -> dict:
        assert run("images/a/0.png", "--no-overlays", *arguments)[0] == 0
        return read_jsonl()[0]

    ofall, cable = first(), first("--class", "cable")
    assert (cable["class"], cable["image_threshold"], cable["pixel_threshold"]) == ("cable", 2 * IMAGE, 2 * PIXEL)
    assert (cable["score"], cable["anomalous"], cable["regions"]) == (ofall["score"], False, [])
    assert not first("--threshold", str(ofall["score"]))["anomalous"]  # strictly above
    assert first("--threshold", str(ofall["score"] - 1e-6))["anomalous"]
    whole = first("--pixel-threshold", "-1")
    assert [(region["box"], region["area"]) for region in whole["regions"]] == [([0, 0, 50, 70], 3500)]
    assert (whole["image_threshold"], whole["pixel_threshold"]) == (IMAGE, -1)

    plain = toy_model_folder(tmp_path / "plain", calibrated=False)
    code, out, err = run("images/a/0.png", model=plain)
    assert code == 0
    assert out.startswith("1 image, 0 anomalous, 0 failed: ")
    gives = "--threshold gives decisions, --pixel-threshold regions"
    assert err == f"invad-pipe: the model is not calibrated: {gives}\n"
    record = read_jsonl()[0]
    assert record["score"] == pytest.approx(invad.load(plain, device="cpu").predict("images/a/0.png")[0].score)
    assert [record[key] for key in ("anomalous", "image_threshold", "pixel_threshold", "regions")] == [None] * 4


# ---------------------------------------------------------------- what goes wrong


def bomb() -> bytes:
    """A PNG of a few bytes that says it had 10^8 pixels."""
    head = (10**4).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    parts = [
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_broken_images_are_named_and_the_others_predicted(images, run):
    (images / "a/bomb.png").write_bytes(bomb())
    (images / "a/empty.png").touch()
    (images / "a/text.jpg").write_text("no image")
    (images / "a/truncated.png").write_bytes(image_bytes(64)[:-20])
    (images / "a/gone.png").symlink_to("nowhere.png")
    os.mkfifo(images / "a/pipe.png")
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(images / "a/deep.png")
    Path(os.fsdecode(os.fsencode(images / "a") + b"/\xff.png")).write_bytes(image_bytes())
    save_noise(images / "c.png/7.png", 7)  # a folder
    reasons = {
        "bomb.png": "has 10000x10000 pixels; at most 80000000 are accepted",
        "deep.png": "has the pixel format I;16; convert it to 8 bits a channel, grey or RGB",
        "empty.png": "not an image (PNG, JPEG, BMP, TIFF or WebP), or a damaged one",
        "gone.png": "no such image",
        "pipe.png": "not an image, not even a file",
        "text.jpg": "not an image (PNG, JPEG, BMP, TIFF or WebP), or a damaged one",
        "truncated.png": "damaged image (",
        "\\udcff.png": "the name is not UTF-8; rename it",
    }
    code, out, err = run("images", "--batch-size", "3")
    assert code == 1
    assert out.startswith("16 images, ")
    assert ", 8 failed: " in out
    failed = [record for record in read_jsonl() if record["error"]]
    assert [record["image"] for record in failed] == [f"images/a/{name}" for name in reasons]
    for record, reason, line in zip(failed, reasons.values(), err.splitlines(), strict=True):
        assert record["error"].startswith(reason)
        assert line == f"invad-pipe: failed: {record['image']}: {record['error']}"
        assert [record[key] for key in ("score", "anomalous", "regions", "overlay", "width")] == [None] * 5
    whole = [record for record in read_jsonl() if not record["error"]]
    assert len(whole) == 8
    assert whole[-1]["overlay"] == "overlays/c.png/7.png.png"
    assert all(Path("predictions", record["overlay"]).is_file() for record in whole)


def test_twenty_failures_are_named_and_the_others_counted(folder, run):
    for number in range(23):
        save_image(folder / f"in/{number:02}.png").write_text("no image")
    code, out, err = run("in")
    assert code == 1
    assert out.startswith("23 images, 0 anomalous, 23 failed: ")
    assert len(err.splitlines()) == 21
    assert err.endswith("invad-pipe: failed: and 3 more\n")
    assert sum(record["error"] is not None for record in read_jsonl()) == 23
    assert not Path("predictions/overlays").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        ([""], "'': no such file or folder"),
        (["images", "nowhere/*.png"], "nowhere/*.png: no such file or folder"),
        (["images/*.gif"], "images/*.gif: no such file or folder"),
        (
            ["images/a", "void"],
            "void: has no images (.bmp, .jfif, .jpeg, .jpg, .png, .tif, .tiff, .webp; links to folders are not",
        ),
        (["images", "--out", "images/a/0.png"], "images/a/0.png: is a file, or lies in one; expected a folder"),
        (["images", "--out", "images/a/0.png/b"], "images/a/0.png/b: is a file, or lies in one; expected a folder"),
        (["images", "--threshold", "nan"], "thresholds: the one of images is nan; expected a finite number"),
        (["images", "--pixel-threshold", "inf"], "thresholds: the one of pixels is inf; expected a finite number"),
        (["images", "--device", "gpu"], "device: 'gpu' is not to be had here; "),
        (["images", "--device", "meta"], "device: 'meta' is not to be had here; "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_in_the_call_is_one_line(images, mistake, arguments, message):
    Path("void").mkdir()
    assert mistake(*arguments).startswith(message)


def test_an_unknown_class_is_named_with_the_known_ones(images, mistake):
    assert mistake("images", "--class", "screw") == "class: the model has the classes bottle, cable, not 'screw'"


def test_an_overlay_that_cannot_be_written_costs_no_prediction(images, run):
    Path("predictions").mkdir()
    Path("predictions/overlays").touch()
    code, _, err = run("images/a/0.png")
    assert code == 1
    assert err.startswith("invad-pipe: failed: images/a/0.png: its overlay cannot be written (")
    record = read_jsonl()[0]
    assert record["score"] > 0
    assert record["overlay"] is None


def ctrl_c() -> None:
    raise KeyboardInterrupt  # what Python makes of SIGINT, unless it was started with that ignored


@pytest.mark.parametrize("interrupt", [ctrl_c, lambda: signal.raise_signal(signal.SIGTERM)], ids=["ctrl-c", "sigterm"])
def test_an_interrupted_run_leaves_nothing_half_written(interrupt, images, run, predictor, monkeypatch):
    maps, calls = Predictor.maps, []

    def interrupted(self, batch, views):
        calls.append(len(batch))
        if len(calls) == 3:
            interrupt()
        return maps(self, batch, views)

    Path("predictions").mkdir()
    Path("predictions/predictions.jsonl").write_text("of an earlier run\n")
    monkeypatch.setattr(Predictor, "maps", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    code, out, _ = run("images", "--batch-size", "2")
    signal.signal(signal.SIGTERM, before)
    assert (code, out) == (130, "")
    *overlays, records = files_below(Path("predictions"))
    assert records == "predictions.jsonl"
    assert Path("predictions", records).read_text() == "of an earlier run\n"
    assert overlays == [f"overlays/a/{image}.png.png" for image in range(len(overlays))]
    for overlay in overlays:
        Image.open(Path("predictions", overlay)).verify()


def test_a_batch_that_is_too_large_for_the_device_is_a_mistake_in_the_call(images, mistake, monkeypatch):
    def full(self, batch, views):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Predictor, "maps", full)
    assert mistake("images", "--batch-size", "5", "--out", "other").startswith("--batch-size: 5 images do not fit in ")
    assert files_below(Path("other")) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_a_failure(images, run, monkeypatch, predictor, value):
    def maps(_, batch, views):
        values = np.ones(batch.shape[:3], np.float32)
        values[:, 3, 3] = value
        return values, values.max((1, 2))

    monkeypatch.setattr(Predictor, "maps", maps)
    code, _, err = run("images/a/0.png")
    assert code == 1
    assert err.startswith("invad-pipe: failed: images/a/0.png: the model gives it NaN or infinity as a score")
    (record,) = read_jsonl()
    assert (record["score"], record["anomalous"], record["regions"]) == (None, None, None)
    with pytest.raises(InputError, match="image 0: the model gives it NaN or infinity"):
        predictor.predict(noise(0))
    (streamed,) = predictor.stream([noise(0)])
    for decide in (
        lambda: streamed.anomalous,
        streamed.regions,
        streamed.mask,
        lambda: draw_overlay(noise(0), streamed),
    ):
        with pytest.raises(InputError, match="the model gives it NaN or infinity"):
            decide()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_thresholds_that_are_no_numbers_are_refused(model, value):
    with pytest.raises(InputError, match=r"thresholds: the one of (image|pixel)s is (nan|-?inf)"):
        invad.load(model, device="cpu", thresholds=Thresholds(None, value))
    with pytest.raises(InputError, match="thresholds: the one of images is "):
        Thresholds(value, 1.0)


def change_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON file, by dotted name; `None` takes one out."""
    value = json.loads(path.read_text())
    for name, new in changes.items():
        *above, key = name.split(".")
        inner = value
        for part in above:
            inner = inner[part]
        inner[key] = new
        if new is None:
            del inner[key]
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(("name", "value"), [("model.safetensors", math.nan), ("encoder.safetensors", math.inf)])
def test_weights_that_are_no_numbers_are_refused(model, tmp_path, name, value):
    broken = shutil.copytree(model, tmp_path / "broken")
    tensors = load_file(broken / name)
    key = next(key for key, tensor in tensors.items() if tensor.is_floating_point())
    tensors[key].flatten()[0] = value
    save_file(tensors, broken / name)
    digest = hashlib.sha256((broken / "model.safetensors").read_bytes()).hexdigest()
    change_json(broken / "config.json", model_sha256=digest)
    with pytest.raises(InputError, match=f"{name}.*: the weights .* are NaN or infinite") as error:
        invad.load(broken, device="cpu")
    assert key in str(error.value)


def test_a_model_of_weights_that_are_no_numbers_is_not_written(model, tmp_path):
    method, config = load_model(model)
    next(method.parameters()).data.flatten()[0] = math.nan
    with pytest.raises(InputError, match=r"new/model\.safetensors: the weights .* are NaN or infinite"):
        save_model(method, config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------- the model folder


@pytest.fixture
def copied(model, tmp_path) -> Path:
    """A model folder to damage."""
    return shutil.copytree(model, tmp_path / "copied")


def test_the_digest_of_the_weights_is_that_of_their_file(copied):
    weights = copied / "model.safetensors"
    data = bytearray(weights.read_bytes())
    assert json.loads((copied / "config.json").read_text())["model_sha256"] == hashlib.sha256(data).hexdigest()
    start = len(data) - 785_000
    zeros = bytes(data[:start]) + bytes(len(data) - start)
    data[-1] ^= 1
    for damaged in (bytes(data), zeros, bytes(data) + b"x"):
        weights.write_bytes(damaged)
        with pytest.raises(InputError, match=r"copied: damaged model \(model\.safetensors is not the file .* SHA-256"):
            invad.load(copied, device="cpu")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"channels": [20_000, 32, 96]}, "config.json: channels: must be less than or equal to 4096, not 20000"),
        ({"channels": [2_000, 32, 96]}, r"model\.safetensors: .* has the shape"),
        ({"channels": [24, 32]}, "config.json: channels: "),
        ({"features.image_size": 10**6}, "features.image_size: must be less than or equal to 1024, not 1000000"),
        ({"features.image_size": 1024}, r"model\.safetensors: .* has the shape"),
        ({"features.image_size": "64"}, "features.image_size: must be a valid integer, not '64'"),
        ({"features.image_size": 10**3000}, "features.image_size: must be "),
        ({"features": [1]}, "config.json: features: must be a mapping"),
        ({"train.blocks": 10**9}, "train.blocks: must be less than or equal to 64, not 1000000000"),
        ({"train.blocks": 3}, r"model\.safetensors: missing: "),
        ({"train.style_channels": True}, "train.style_channels: must be a valid integer, not True"),
        ({"train.model": ["invad"]}, "train.model: must be one of invad, rd"),
        ({"train": None}, "train.model: must be one of invad, rd"),
        ({"train.strides": 3}, "config.json: train.strides: unknown key; known are "),
        ({"classes": "bottle"}, "config.json: classes: must be "),
        ({"encoder_sha256": None}, "config.json: encoder_sha256: is missing"),
        ({"model_sha256": None}, "config.json: model_sha256: is missing"),
        ({"model_sha256": "0"}, r"model\.safetensors is not the file that was written"),
        ({"later": 1}, "config.json: later: unknown key; known are benchmark, "),
    ],
)
def test_settings_of_a_model_are_checked_before_anything_is_allocated(copied, changes, reason, monkeypatch):
    change_json(copied / "config.json", **changes)
    monkeypatch.setattr("invad.training.model_folder.load_file", None)
    with pytest.raises(InputError, match=rf"copied: damaged model \(.*{reason}.*; this is invad") as error:
        load_model(copied)
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"score.sigma": 1e6}, "score.sigma: must be 'method' or less than or equal to 1024, not 1000000.0"),
        ({"score.batch_size": 10**9}, "score.batch_size: must be less than or equal to 4096"),
        ({"score.map_levels": "all"}, "score.map_levels: must be "),
        ({"all.image_threshold": "1"}, "all.image_threshold: must be a valid number, not '1'"),
        ({"per_class.bottle.pixel_threshold": True}, "per_class.bottle.pixel_threshold: must be a valid number"),
        ({"per_class.bottle.images": -1}, "per_class.bottle.images: must be greater than or equal to 0"),
        ({"per_class": []}, "per_class: must be "),
        ({"false_positive_rate": 2}, "false_positive_rate: must be less than 1"),
        ({"score": None}, "score: is missing"),
    ],
)
def test_thresholds_of_a_model_are_checked_like_settings(copied, changes, reason):
    change_json(copied / "calibration.json", **changes)
    with pytest.raises(
        InputError, match=rf"calibration\.json: damaged calibration, or .* \(.*{reason}.*dvc repro -f evaluate"
    ):
        invad.load(copied, device="cpu")


@pytest.mark.parametrize("name", ["config.json", "calibration.json", "model.safetensors"])
def test_a_pipe_in_a_model_folder_is_no_file(copied, name):
    (copied / name).unlink()
    os.mkfifo(copied / name)
    with pytest.raises(InputError, match=rf"{name}.*(: not a file|is missing, or no file)"):
        invad.load(copied, device="cpu")


@pytest.mark.parametrize("name", ["config.json", "calibration.json"])
@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 5_000, "9" * 5_000, " " * 10_000_001, "\xff", '{"score": NaN}']
)
def test_a_hostile_file_of_a_model_is_one_line(copied, name, text):
    (copied / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=name) as error:
        invad.load(copied, device="cpu")
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)


@pytest.mark.slow
def test_a_model_folder_that_cannot_be_used_says_why(images, mistake, tmp_path):
    def refusal(change, **options) -> str:
        broken = toy_model_folder(tmp_path / "broken", **options)
        change(broken)
        return mistake("images", model=broken).removeprefix(str(broken))

    def config(**fields):
        def change(broken: Path) -> None:
            path = broken / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

        return change

    def cut(name: str):
        return lambda broken: os.truncate(broken / name, 100)

    assert mistake("images", model=tmp_path / "none") == (
        f"{tmp_path}/none: no model folder; `dvc repro train` writes models/<benchmark>"
    )
    newer = refusal(config(format=99, version="7.1"))
    assert newer.startswith("/config.json: a model of format 99, made by invad 7.1; ")
    assert newer.endswith(" reads format 1: train it again, or install a version that reads it")
    assert refusal(config(format=0)).startswith("/config.json: a model of format 0, ")
    assert refusal(lambda broken: (broken / "config.json").unlink()) == "/config.json: no such file"
    assert refusal(config(features={"encoder": "resnet5"})).startswith(": damaged model (")
    assert refusal(cut("model.safetensors")).startswith(": damaged model (")
    assert refusal(cut("encoder.safetensors")).startswith("/encoder.safetensors: not a file of plain weights (")
    assert refusal(lambda broken: (broken / "model.safetensors").unlink()).startswith(": damaged model (")
    assert refusal(cut("calibration.json")).startswith("/calibration.json: not valid JSON (")


@pytest.mark.slow
def test_a_folder_without_its_encoder_takes_the_weights_that_it_was_trained_with(images, run, mistake, tmp_path):
    alone = toy_model_folder(tmp_path / "alone")
    run("images/a/0.png")
    expected = read_jsonl()[0]["score"]
    (alone / "encoder.safetensors").unlink()
    assert run("images/a/0.png", model=alone)[0] == 0
    assert read_jsonl()[0]["score"] == expected
    path = alone / "config.json"
    path.write_text(path.read_text().replace('"none"', '"nowhere.safetensors"'))
    shutil.rmtree("predictions")
    assert "nowhere.safetensors" in mistake("images", model=alone)


# ---------------------------------------------------------------- the Python interface


def forms(picture: Image.Image, path: Path) -> dict[str, object]:
    """The pixels of an RGB picture in every form that is accepted."""
    picture.save(path)
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    transparent = picture.copy()
    transparent.putalpha(0)
    return {
        "path": path,
        "text": str(path),
        "RGB": picture,
        "RGBA": transparent,
        "opened": Image.open(path),
        "array": array,
        "slices": np.ascontiguousarray(array[:, ::-1])[:, ::-1],
        "tensor": tensor,
        "floats": tensor / 255,
        "halves": (tensor / 255).half(),
    }


def test_the_same_pixels_give_the_same_prediction_in_every_form(predictor, tmp_path):
    inputs = forms(noise(0, 90, 70), tmp_path / "x.png")
    expected = predictor.predict(inputs["path"])
    assert len(expected) == 1
    for name, image in inputs.items():
        prediction = predictor.predict(image)
        assert np.array_equal(prediction.maps, expected.maps), name
        assert (prediction[0].width, prediction[0].height) == (90, 70)
    grey = noise(1).convert("L")
    palette = noise(1).convert("P", palette=Image.Palette.ADAPTIVE)
    for image in (grey, palette, grey.convert("1"), noise(1).convert("CMYK")):
        as_rgb = predictor.predict(image.convert("RGB"))
        assert np.array_equal(predictor.predict(image).maps, as_rgb.maps), image.mode


def test_a_grey_array_is_the_image_of_equal_channels(predictor):
    grey = np.array(noise(1, 90, 70).convert("L"))
    expected = predictor.predict(np.stack([grey] * 3, axis=2))
    for image in (grey, torch.from_numpy(grey)[None], torch.from_numpy(grey)[None] / 255):
        assert np.array_equal(predictor.predict(image).maps, expected.maps)
    assert predictor.predict(grey)[0].width == 90


def test_a_prediction_draws_itself_on_its_image(predictor, tmp_path):
    path = save_noise(tmp_path / "a.png", 1, 90, 70)
    expected = draw_overlay(noise(1, 90, 70), predictor.predict(path)[0])
    for image in (path, str(path), noise(1, 90, 70), np.asarray(noise(1, 90, 70))):
        prediction = predictor.predict(image)[0]
        assert np.array_equal(np.asarray(prediction.overlay()), np.asarray(expected))
        with Image.open(io.BytesIO(prediction._repr_png_())) as shown:
            assert np.array_equal(np.asarray(shown), np.asarray(expected))
    prediction = predictor.predict(path)[0]
    path.unlink()
    with pytest.raises(InputError, match=r"a\.png: no such image"):
        prediction.overlay()
    assert np.array_equal(np.asarray(prediction.overlay(noise(1, 90, 70))), np.asarray(expected))
    with pytest.raises(InputError, match=r"^overlay: the image is not kept here; give it: overlay\(image\)$"):
        prediction_of(np.eye(8), 90, 70, 0.5, 0.5).overlay()


def test_many_images_at_once_are_predicted_in_order(predictor, tmp_path):
    pictures = [noise(seed, 40 + seed, 50) for seed in range(6)]
    together = predictor.predict(pictures)
    assert isinstance(together[5], ImagePrediction)
    assert [each.width for each in together] == [40, 41, 42, 43, 44, 45]
    one_by_one = np.concatenate([predictor.predict(picture).maps for picture in pictures])
    assert together.maps == pytest.approx(one_by_one, abs=1e-5)
    assert together.scores.tolist() == [each.score for each in together] == together.maps.max(axis=(1, 2)).tolist()
    assert together.anomalous == [score > IMAGE for score in together.scores.tolist()]
    assert np.array_equal(predictor.predict(iter(pictures)).maps, together.maps)
    array = np.stack([np.asarray(noise(seed)) for seed in range(3)])
    expected = predictor.predict([*array]).maps
    assert np.array_equal(predictor.predict(array).maps, expected)
    assert np.array_equal(predictor.predict(torch.from_numpy(array).permute(0, 3, 1, 2)).maps, expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((8, 8), np.float32),
            r"an array uint8, \(H, W, 3\) or \(H, W\), or a tensor, .*, got float32 \(8, 8\)",
        ),
        (np.zeros((8, 8, 4), np.uint8), r"got uint8 \(8, 8, 4\)"),
        (np.zeros((3, 8, 8), np.uint8), r"got uint8 \(3, 8, 8\)"),
        (np.zeros((8, 8, 3), np.float32), r"got float32 \(8, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), r"got uint8 \(0, 8, 3\)"),
        (torch.zeros(8, 8, 3), r"or a tensor, \(3, H, W\) or .* got torch.float32 \(8, 8, 3\)"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "got torch.int64"),
        (torch.full((3, 8, 8), 1.01), r"a floating tensor has values in \[0, 1\]"),
        (torch.full((3, 8, 8), -0.01), r"a floating tensor has values in \[0, 1\]"),
        (torch.full((3, 8, 8), float("nan")), r"a floating tensor has values in \[0, 1\]"),
        (Image.new("I;16", (8, 8)), r"PIL image: has the pixel format I;16; convert it to 8 bits"),
        (Image.new("F", (8, 8)), r"PIL image: has the pixel format F; "),
        ([3], "expected a path, a PIL image, an array .* or a tensor, .* got int"),
        ("nowhere.png", "^nowhere.png: no such image"),
    ],
    ids=[*"abcdefghijklmn"],
)
def test_other_images_are_refused_with_what_was_expected(predictor, image, message):
    with pytest.raises(InputError, match=message):
        predictor.predict(image)


@pytest.mark.slow
def test_maps_are_those_of_the_stage_score(predictor, model, tmp_path):
    split = image_split(tmp_path, train=0, test=6, size=90)
    split = Split(split.rows, split.image_root, split.mask_root)
    method, config = load_model(model)
    extract_features(split, config.features, tmp_path / "features")
    source = open_features(tmp_path / "features", "test", split, config.features)
    score = predictor.detector.score
    expected = np.concatenate([maps for maps, _ in predictions(method, BatchSource(source, method.needs), score)])
    maps = predictor.predict([split.image_path(row) for row in split.rows]).maps
    assert maps.shape == (6, SIZE, SIZE)
    assert maps == pytest.approx(expected, abs=1e-5)  # the encoder rounds batches of another size differently
    assert np.ptp(expected) > 0.05


def test_a_compiled_model_predicts_the_same(predictor, captured):
    plain = predictor.detector
    features, score = replace(plain.features, compile=True), replace(plain.score, compile=True)
    compiled = Detector(plain.encoder, plain.method, features, score).eval()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8))
    with torch.no_grad():
        for expected, found in zip(plain(images), compiled(images), strict=True):
            torch.testing.assert_close(found, expected)
    assert len(captured) == 2  # encoder and method


# ---------------------------------------------------------------- regions and pictures


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (23, 31)], ids=str)
@pytest.mark.parametrize("threshold", [-1.0, 0.5, 0.9, 2.0])
def test_regions_are_those_found_pixel_by_pixel(shape, threshold):
    values = np.random.default_rng(3).random(shape).astype(np.float32)
    values[0, 0] = 0.5
    expected, count = ndimage.label(values > threshold, np.ones((3, 3)))
    regions = find_regions(values, threshold)
    assert [region.score for region in regions] == sorted((region.score for region in regions), reverse=True)
    by_hand = set()
    for number in range(1, count + 1):
        inside = expected == number
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        box = (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)
        by_hand.add((tuple(map(int, box)), int(inside.sum()), float(values[inside].max())))
    assert len(regions) == count
    assert {(region.box, region.area, region.score) for region in regions} == by_hand


def prediction_of(values: np.ndarray, width: int, height: int, *thresholds: float | None) -> ImagePrediction:
    values = values.astype(np.float32)
    return ImagePrediction(float(values.max()), values, width, height, Thresholds(*thresholds))


def test_regions_are_those_of_the_map_whatever_score_a_method_gives():
    values = np.zeros((8, 8), np.float32)
    values[2:4, 5] = 3.0
    prediction = ImagePrediction(0.1, values, 8, 8, Thresholds(0.5, 1.0))
    assert [(each.box, each.score) for each in prediction.regions()] == [((5, 2, 1, 2), 3.0)]
    assert prediction.anomalous is False


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((1024, 1024), (1024, 1024)),
        ((600, 400), (600, 400)),
        ((64, 64), (512, 512)),
        ((192, 100), (576, 300)),
        ((1, 1), (512, 512)),
        ((4000, 3000), (1182, 886)),
        ((4000, 300), (3739, 280)),
        ((50000, 2), (4096, 1)),
        ((3, 70000), (1, 4096)),
    ],
    ids=str,
)
def test_overlays_are_large_enough_to_see_and_small_enough_to_keep(size, drawn):
    picture = overlay_picture(Image.new("L", size))
    assert overlay_picture(picture).size == picture.size == drawn
    overlay = draw_overlay(Image.new("RGB", size, "white"), prediction_of(np.eye(8), *size, 0.5, 0.5))
    assert overlay.mode == "RGB"
    assert overlay.width == drawn[0]
    assert 20 < overlay.height - drawn[1] < 60  # words


def test_colours_compare_between_images_with_a_threshold(predictor):
    grey = overlay_picture(Image.new("RGB", (512, 512), (90, 90, 90)))
    halves = np.zeros((64, 64))
    halves[:, 32:] = 0.4
    other = np.full((64, 64), 0.4)
    other[:4] = 3.0

    def pixels(values: np.ndarray, *thresholds: float | None) -> np.ndarray:
        return np.asarray(draw_overlay(grey, prediction_of(values, 512, 512, *thresholds))).astype(int)[:512]

    first, second = pixels(halves, None, 0.3), pixels(other, None, 0.3)
    assert first[300, 400].tolist() == second[300, 400].tolist() != [90, 90, 90] == first[300, 100].tolist()
    first, second = pixels(halves, None, None), pixels(other, None, None)
    assert first[300, 400].tolist() != second[300, 400].tolist()  # each in its own range
    assert pixels(np.full((64, 64), 0.3), None, None).std(axis=(0, 1)).max() == 0
    assert np.array_equal(pixels(other, None, -1.0)[20:400, 20:400], pixels(other, None, None)[20:400, 20:400])


def test_lines_enclose_what_lies_above_the_pixel_threshold():
    y, x = np.mgrid[:64, :64]
    values = np.exp(-((x - 20) ** 2 + (y - 40) ** 2) / 100) + np.exp(-((x - 63) ** 2 + y**2) / 60)
    prediction = prediction_of(0.75 * values, 512, 512, 0.7, 0.5)  # nothing is as bright as the lines
    drawn = np.asarray(draw_overlay(Image.new("RGB", (512, 512), (90, 90, 90)), prediction))[:512]
    line = drawn.min(axis=2) > 130
    above = map_at_size(prediction.anomaly_map, 512, 512) > 0.5
    near = ndimage.binary_dilation(above, iterations=3) & ~ndimage.binary_erosion(above, iterations=3)
    assert line.any()
    assert not (line & ~near).any()
    closed, count = ndimage.label(~line)  # the outside and what is inside of two lines, one of them along the border
    assert count == 3
    assert np.array_equal(np.bincount(closed[above]) > 1000, [False, False, True, True])
    without = np.asarray(draw_overlay(Image.new("RGB", (512, 512)), prediction_of(values, 512, 512, 0.9, 2.0)))[:512]
    assert without.min(axis=2).max() < 200


def test_a_normal_image_stays_as_it_is_but_for_what_lies_above_the_pixel_threshold():
    values = np.full((64, 64), 0.45)
    values[20:30, 20:30] = 0.6

    def drawn(image_threshold: float) -> np.ndarray:
        prediction = prediction_of(values, 64, 64, image_threshold, 0.5)
        return np.asarray(draw_overlay(Image.new("RGB", (64, 64), (90, 90, 90)), prediction)).astype(int)[:512]

    normal, anomalous = drawn(0.7), drawn(0.5)
    near = np.zeros((512, 512), bool)
    near[148:252, 148:252] = True  # enlarged eightfold, smoothly
    for pixels in (normal, anomalous):
        assert (pixels[~near] == 90).all()
        red, _, blue = pixels[200, 200]
        assert red > 100 > blue
    assert normal.min(axis=2).max() == 90  # no line, which would be white
    assert anomalous.min(axis=2).max() > 200


def test_the_picture_says_decision_and_score():
    def strip(score: float, threshold: float | None) -> bytes:
        prediction = prediction_of(np.full((8, 8), score), 512, 512, threshold, None)
        overlay = draw_overlay(Image.new("L", (512, 512)), prediction)
        return np.asarray(overlay)[512:].tobytes()

    assert len({strip(1.0, None), strip(1.0, 0.5), strip(1.0, 1.0), strip(1.1, 1.0), strip(1.12, 1.0)}) == 5


# ---------------------------------------------------------------- real images


@pytest.mark.slow
def test_real_images_are_predicted_with_all_that_is_written(real_data, run, predictor):
    leather = real_data / "mvtec_leather_slice"
    code, out, err = run(f"{leather}/test/cut", f"{leather}/test/good", "--batch-size", "8")
    assert (code, err) == (0, "")
    assert out.startswith("8 images, ")
    records = read_jsonl()
    assert len({record["overlay"] for record in records}) == len(files_below(Path("predictions/overlays"))) == 8
    assert {(record["width"], record["height"]) for record in records} == {(1024, 1024)}
    assert len({record["score"] for record in records}) == 8
    prediction = predictor.predict(records[5]["image"])[0]
    assert records[5]["score"] == pytest.approx(prediction.score, abs=1e-5)
    assert sum(region["area"] for region in records[5]["regions"]) == prediction.mask().sum()
