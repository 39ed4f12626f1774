"""`invad.train`: the model that the stages train, from images of any kind; and what the package offers by itself."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import save_image
from PIL import Image
from PIL.ExifTags import Base
from toys import SIZE, image_split, train_model

import invad
from invad.cli import EXTRAS
from invad.config import (
    BenchmarkConfig,
    CalibrationConfig,
    FeaturesConfig,
    InvADConfig,
    ReadingConfig,
    ScoreConfig,
    TableSplitConfig,
    TrainingConfig,
)
from invad.data.images import read_image
from invad.data.split_table import Split
from invad.errors import InputError
from invad.features import extract_features
from invad.features.encoder import build_encoder
from invad.predict.predictor import Predictor
from invad.scoring.score import phase_predictions
from invad.scoring.thresholds import calibrate, write_calibration
from invad.training.model_folder import ModelConfig, save_model

FEATURES = FeaturesConfig("mobilenetv2_100", "none", image_size=SIZE)
SETTINGS = {"epochs": 2, "batch_size": 4, "style_channels": 8, "latent_channels": 4, "blocks": 1}


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    """Eight images to train on, four held out and two for the test, of two classes."""
    split = image_split(tmp_path_factory.mktemp("images"), train=12, test=2)
    phases = [*["train"] * 8, *["calibration"] * 4, *["test"] * 2]
    rows = [
        replace(row, phase=phase, class_name="nut" if index % 2 else "bolt")
        for index, (row, phase) in enumerate(zip(split.rows, phases, strict=True))
    ]
    return replace(split, rows=tuple(rows))


@pytest.fixture(scope="module")
def predictor(split) -> Predictor:
    return invad.train(split, features=FEATURES, name="toys", device="cpu", progress=False, **SETTINGS)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Of all but the training, which has one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def trained_by_the_stages(split: Split, benchmark: BenchmarkConfig, root: Path) -> Path:
    key = extract_features(split, benchmark.features, root / "features")
    method, _ = train_model(
        root / "features",
        split,
        benchmark.features,
        key,
        benchmark.train,
        name=benchmark.name,
        workers=TrainingConfig(checkpoint_steps=1),
        storage=root / "storage",
        on_progress=lambda *_: None,
    )
    torch.set_num_threads(2)  # the next stage is another process
    encoder = build_encoder(benchmark.features.encoder, benchmark.features.weights)
    model = root / "model"
    save_model(method, ModelConfig.of(benchmark, split, key), model, encoder)
    maps = phase_predictions(benchmark, split, "calibration", root / "features", model, label="")
    classes = [row.class_name for row in split.phase("calibration")]
    write_calibration(calibrate(maps, classes, {"bolt", "nut"}, benchmark), model / "calibration.json")
    return model


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["store", "live"])
def test_the_model_is_that_of_the_stages_byte_for_byte(split, tmp_path, mode, two_threads):
    features = replace(FEATURES, mode=mode)
    calibration = CalibrationConfig(share=0.5, false_positive_rate=0.3, seed=0)  # of a split, the rate only
    score = ScoreConfig(sigma=2.0)
    recipe = InvADConfig(**SETTINGS)
    benchmark = BenchmarkConfig("toys", "mine", TableSplitConfig(), features, recipe, score, calibration)
    trained = invad.train(
        split,
        method=recipe,
        features=features,
        score=score,
        calibration=calibration,
        name="toys",
        device="cpu",
        threads=1,
        progress=False,
    )
    trained.save(tmp_path / "mine")
    expected = files(trained_by_the_stages(split, benchmark, tmp_path))
    assert files(tmp_path / "mine") == expected
    assert set(expected) == {"model.safetensors", "encoder.safetensors", "config.json", "calibration.json"}
    again = invad.load(tmp_path / "mine", device="cpu")
    image = noise(1)
    assert np.array_equal(again.predict(image).maps, trained.predict(image).maps)
    assert again.thresholds == trained.thresholds
    assert trained.calibration.images == 4


@pytest.mark.slow
def test_images_of_all_kinds_are_the_same_model(tmp_path):
    arrays = [noise(seed) for seed in range(6)]
    for number, array in enumerate(arrays):
        save_image(tmp_path / f"bolts/{number:06d}.png")
        Image.fromarray(array).save(tmp_path / f"bolts/{number:06d}.png")
    paths = sorted((tmp_path / "bolts").iterdir())
    kinds = {
        "folder": tmp_path / "bolts",
        "paths": map(str, paths),
        "PIL images": [Image.fromarray(array) for array in arrays],
        "array": np.stack(arrays),
        "classes": {"bolts": arrays},
    }
    trained = {
        kind: invad.train(
            images, features=FEATURES, name="bolts", device="cpu", progress=False, **SETTINGS | {"epochs": 1}
        )
        for kind, images in kinds.items()
    }
    maps = {kind: model.predict(arrays[0]).maps for kind, model in trained.items()}
    assert all(np.array_equal(each, maps["folder"]) for each in maps.values()), [*maps]
    assert {model.thresholds for model in trained.values()} == {trained["folder"].thresholds}
    assert trained["folder"].calibration.images == 1  # a tenth of six, and one at least
    assert trained["classes"].config.classes == ("bolts",)


@pytest.mark.slow
def test_a_model_is_trained_on_images_read_as_asked_and_reads_so_ever_after(tmp_path):
    reading = ReadingConfig(exif_rotation=True, grey16_white=4095)
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    for number in range(5):
        values = np.random.default_rng(number).integers(0, 4096, (40, 30), np.uint16)
        Image.fromarray(values).save(tmp_path / f"{number:06d}.png", exif=exif)
    files = sorted(tmp_path.iterdir())
    upright = [np.rot90(read_image(path, reading=ReadingConfig(grey16_white=4095)), -1) for path in files]
    options = {"features": FEATURES, "device": "cpu", "progress": False, **SETTINGS | {"epochs": 1}}
    with pytest.raises(InputError, match="has the pixel format I;16"):
        invad.train(tmp_path, **options)
    models = [
        invad.train(images, reading=reading, **options)
        for images in (tmp_path, [Image.open(path) for path in files], upright)
    ]
    assert {model.config.reading for model in models} == {reading}
    expected = models[2].predict(upright[0]).maps
    for model in models:
        (of_file,), (of_picture,) = (model.predict(image) for image in (files[0], Image.open(files[0])))
        assert all(np.array_equal(each.anomaly_map, expected[0]) for each in (of_file, of_picture))
        assert (of_file.width, of_file.height) == (40, 30)
        assert of_file.overlay().tobytes() == of_picture.overlay().tobytes()
    models[0].save(tmp_path / "model")
    assert np.array_equal(invad.load(tmp_path / "model", device="cpu").predict(files[0]).maps, expected)


@pytest.mark.slow
def test_torch_is_left_as_it_was(split):
    torch.manual_seed(5)
    before = torch.get_rng_state(), torch.get_num_threads()
    torch.use_deterministic_algorithms(False)
    invad.train(split, features=FEATURES, device="cpu", progress=False, threads=2, **SETTINGS)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        ([noise(0)] * 3, {}, r"^batch_size: 32 is more than the 2 training images$"),
        ([noise(0)] * 3, {"epohs": 2}, r"^invad\.train: train\.epohs: unknown key; known are .*epochs"),
        ([noise(0)] * 3, {"epochs": 0}, r"^invad\.train: train\.epochs: must be "),
        ([noise(0)] * 3, {"method": "nothing"}, r"^invad\.train: train\.model: must be one of invad, rd, patchcore"),
        ([noise(0)] * 3, {"method": "rd", "blocks": 2}, r"train\.blocks: unknown key"),
        ([noise(0)] * 3, {"device": "tpu9"}, "^device: 'tpu9' is not to be had here"),
        ([], {"batch_size": 1}, "^batch_size: 1 is more than the 0 training images$"),
        (["nowhere.png"], {}, r"nowhere\.png: no such image$"),
        ([3], {}, "^image: expected a path, a PIL image, an array uint8, .* got int$"),
    ],
    ids=[*"abcdefghi"],
)
def test_mistakes_are_one_line(images, settings, message):
    with pytest.raises(InputError, match=message):
        invad.train(images, features=FEATURES, progress=False, **settings)


def test_a_folder_without_images_says_what_is_accepted(tmp_path):
    (tmp_path / "classes/bolts").mkdir(parents=True)
    with pytest.raises(
        InputError, match=r"classes: has no images \(\.bmp, .*\); folders of several classes are a dict"
    ):
        invad.train(tmp_path / "classes")


def test_saving_replaces_a_model_and_nothing_else(predictor, tmp_path):
    predictor.save(tmp_path / "models/toys")
    before = files(tmp_path / "models/toys")
    predictor.save(tmp_path / "models/toys")
    assert files(tmp_path / "models/toys") == before
    with pytest.raises(InputError, match=r"models: is there and no model folder; choose another name$"):
        predictor.save(tmp_path / "models")
    assert files(tmp_path / "models/toys") == before


def test_representations_say_what_it_is(predictor, tmp_path):
    image, pixel = predictor.thresholds.image, predictor.thresholds.pixel
    assert repr(predictor) == (
        f"<predictor: invad on mobilenetv2_100 at {SIZE} pixels, cpu; classes bolt, nut; "
        f"thresholds: image {image:.4g}, pixel {pixel:.4g}>"
    )
    save_image(tmp_path / "a.png", size=40)
    prediction = predictor.predict([tmp_path / "a.png", noise(0)])
    low, high = sorted(prediction.scores)
    anomalous = sum(prediction.anomalous)
    assert repr(prediction) == f"<predictions of 2 images: {anomalous} anomalous, scores {low:.4g} to {high:.4g}>"
    word = "anomalous" if prediction[0].anomalous else "normal"
    scores = f"score {prediction[0].score:.4g}, threshold {image:.4g}"
    assert repr(prediction[0]) == f"<prediction of {tmp_path / 'a.png'}: {word}, {scores}; 40x40 pixels>"
    assert repr(predictor.predict([])) == "<predictions of 0 images: 0 anomalous>"


def test_the_package_has_its_modules_when_they_are_asked_for():
    code = "import sys, invad; print(*dir(invad), *sys.modules); invad.metrics.evaluate; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, with_metrics = ({*line.split()} for line in done.stdout.splitlines())
    assert {"load", "train", "config", "errors", "methods", "metrics"} <= imported
    heavy = {"torch", "numpy", "timm", "ray", "mlflow", "dvc", "matplotlib", "pydantic"}
    assert not heavy & imported
    assert heavy & with_metrics == {"numpy"}
    assert [*invad.methods.METHODS] == [
        "invad",
        "rd",
        "patchcore",
        "simplenet",
        "uniad",
        "dinomaly",
        "draem",
        "destseg",
        "mvad",
        "tocoad",
    ]
    with pytest.raises(AttributeError, match="has no attribute 'methodes'"):
        _ = invad.methodes


@pytest.mark.slow
def test_training_needs_no_extra():
    without_extras = f"import sys; sys.modules.update(dict.fromkeys({[*EXTRAS]}))"
    code = f"{without_extras}; from invad.pipeline import in_process; print(in_process.FEATURES.encoder)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "mobilenetv2_100\n", done.stderr
