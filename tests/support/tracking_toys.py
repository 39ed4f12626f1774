"""A tiny benchmark whose runs MLflow keeps: its settings, its files, and what MLflow has of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from commands import pipe
from mlflow import MlflowClient
from mlflow.pyfunc import PyFuncModel
from PIL import Image
from toys import image_split

from invad import tracking
from invad.config import BenchmarkConfig, FeaturesConfig, FolderSplitConfig, InvADConfig, ScoreConfig
from invad.data.split_table import Split
from invad.features import extract_features
from invad.features.encoder import build_encoder
from invad.methods import EncoderOutput, build_method
from invad.scoring.score import phase_predictions
from invad.training.model_folder import ModelConfig, save_model
from invad.workspace import Workspace

BENCHMARK = BenchmarkConfig(
    "mvtec", "mvtec", FolderSplitConfig(), FeaturesConfig("mobilenetv2_100"), InvADConfig(epochs=3), ScoreConfig()
)


def client_of(workspace: Workspace) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking.tracking_uri(workspace))


def fetch(run: tracking.Run, workspace: Workspace):
    return client_of(workspace).get_run(run.mlflow_id)


def outbox(run: tracking.Run, workspace: Workspace) -> Path:
    return workspace.private / "mlflow" / run.run_id


def trained(workspace: Workspace, mode: str) -> tuple[BenchmarkConfig, Split]:
    """A model with its features and images, 64 pixels wide."""
    features = FeaturesConfig("mobilenetv2_100", weights="none", image_size=64, mode=mode)
    train = InvADConfig(epochs=1, blocks=1)
    split = image_split(workspace.root, train=4, test=6, size=64)
    encoder = build_encoder(features.encoder, features.weights)
    extract_features(split, features, workspace.features("mvtec"))
    method = build_method(EncoderOutput(features.encoder, encoder.channels, 64), train)
    config = ModelConfig("mvtec", ("bottle",), encoder.channels, encoder.weights_sha256, features, train)
    save_model(method, config, workspace.model("mvtec"), encoder)
    return replace(BENCHMARK, features=features, train=train, score=ScoreConfig(sigma=1.5, batch_size=4)), split


def check_model(model: PyFuncModel, benchmark: BenchmarkConfig, split: Split, workspace: Workspace) -> None:
    """It gives what the stage `score` gives for the test images, bit by bit."""
    folders = workspace.features("mvtec"), workspace.model("mvtec")
    expected = np.concatenate([maps for maps, _ in phase_predictions(benchmark, split, "test", *folders, label="test")])
    images = np.stack([np.asarray(Image.open(split.image_path(row))) for row in split.phase("test")])
    result = model.predict({"images": images})
    np.testing.assert_array_equal(result["maps"], expected)
    np.testing.assert_array_equal(result["scores"], expected.max(axis=(1, 2)))


def invad_pipe(workspace: Workspace, *arguments: str, code: int = 0) -> str:
    done = pipe(*arguments, cwd=workspace.root)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout
