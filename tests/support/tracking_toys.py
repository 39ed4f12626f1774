"""A tiny benchmark whose runs MLflow keeps: its settings, its files, and what MLflow has of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from commands import pipe
from conftest import REPOSITORY
from mlflow import MlflowClient
from mlflow.pyfunc import PyFuncModel
from PIL import Image
from toys import image_split

from invad import tracking
from invad.config import BenchmarkConfig, FeaturesConfig, FolderSplitConfig, InvADConfig, ScoreConfig, load_params
from invad.data.source import Source, write_source
from invad.data.split_table import FILE_NAME, Split, write_split_table
from invad.features import extract_features
from invad.features.encoder import build_encoder
from invad.files import write_json, write_text
from invad.methods import EncoderOutput, build_method
from invad.scoring.score import phase_predictions
from invad.scoring.thresholds import Calibration, HeldOut, write_calibration
from invad.training.model_folder import ModelConfig, save_model
from invad.workspace import Workspace

BENCHMARK = BenchmarkConfig(
    "mvtec", "mvtec", FolderSplitConfig(), FeaturesConfig("mobilenetv2_100"), InvADConfig(epochs=3), ScoreConfig()
)


def client_of(workspace: Workspace) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking.tracking_uri(workspace))


def fetch(run: tracking.Run, workspace: Workspace):
    return client_of(workspace).get_run(run.run_id)


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


class Place:
    """A workspace with the files that the stages train and evaluate have written, and what they log of them."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)
        self.benchmark, self.split = trained(self.workspace, "live")
        name, dataset = self.benchmark.name, self.benchmark.dataset
        write_split_table(self.split.rows, self.workspace.split(name) / FILE_NAME, {})
        write_source(self.workspace.raw(dataset), Source(dataset, "embedded", self.split.image_root, ""))
        write_text(self.workspace.loss(name), "step,epoch,loss,learning_rate\n1,1,0.5,0.1\n2,1,0.25,0.1\n")
        result = {
            "protocol_version": "1",
            "mean": {"paper": {"mad": 0.5}},
            "per_class": {"bottle": {"paper": {"mad": 0.5}}},
        }
        write_json(self.workspace.metrics(name), result)

    def train(self) -> tracking.Run:
        run = tracking.start_run(self.benchmark, self.workspace)
        tracking.log_training(run, self.benchmark, self.workspace, {})
        return run

    def evaluate(self) -> None:
        none = HeldOut(None, None, 0)
        calibration = Calibration(0.01, 0, {"bottle": none}, none, [], self.benchmark.score)
        write_calibration(calibration, self.workspace.calibration(self.benchmark.name))
        tracking.log_evaluation(self.benchmark, self.workspace)

    def sync(self) -> list[str]:
        params = load_params(REPOSITORY / "params.yaml")
        params = replace(params, benchmarks={self.benchmark.name: self.benchmark})
        return tracking.sync_runs(params, self.workspace)

    def check(self) -> str:
        """MLflow has one run, with everything; return its id."""
        client = MlflowClient(tracking_uri=tracking.tracking_uri(self.workspace))
        run = tracking.known_run(self.benchmark, self.workspace)
        assert run is not None
        found = fetch(run, self.workspace)
        assert found.info.status == "FINISHED"
        assert found.data.metrics == {
            "paper/mad": 0.5,
            "paper/mad/bottle": 0.5,
            "train/loss": 0.25,
            "train/learning_rate": 0.1,
        }
        assert found.data.params["train.epochs"] == "1"
        assert [point.step for point in client.get_metric_history(run.run_id, "train/loss")] == [1, 2]
        assert len(client.get_metric_history(run.run_id, "paper/mad")) == 1
        names = {item.path for item in client.list_artifacts(run.run_id)}
        assert names == {
            "config.json", "packages.txt", "mvtec.json", "mvtec.csv", "calibration.json"
        }  # fmt: skip
        assert {item.dataset.name for item in found.inputs.dataset_inputs} == {"mvtec/train", "mvtec/test"}
        assert len(found.outputs.model_outputs) == 1
        same = client.search_runs([found.info.experiment_id], f"tags.`invad.run` = '{run.key}'")
        assert [item.info.run_id for item in same] == [run.run_id]
        return found.info.run_id


def invad_pipe(workspace: Workspace, *arguments: str, code: int = 0) -> str:
    done = pipe(*arguments, cwd=workspace.root)
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout
