"""Where everything lies, relative to the folder that holds `params.yaml`: the only place that knows these paths."""

from dataclasses import dataclass
from pathlib import Path

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"  # of a model's folder
ENCODER_FILE, CALIBRATION_FILE = "encoder.safetensors", "calibration.json"
SEGAD_FILE = "segad.json"  # all of a model that scores images from the maps of others
EVIDENCE_FOLDER = "evidence"  # of a run in MLflow: test images, maps and curves


@dataclass(frozen=True)
class Workspace:
    """The folders of a checkout; `dvc.yaml` declares the same ones."""

    root: Path = Path()

    def raw(self, dataset: str) -> Path:
        """Return the folder of a data set: `source.json`; the files themselves where they are generated; the table of one's own data."""
        return self.root / "data" / "raw" / dataset

    def store(self, dataset: str) -> Path:
        """Return the default folder of a data set's official archives and images: no output of a stage, so nothing is fetched twice."""
        return self.root / "data" / "store" / dataset

    def imported_table(self, dataset: str) -> Path:
        """Return the table of a data set of one's own, kept in git."""
        return self.root / "data" / "import" / f"{dataset}.csv"

    def code(self, stage: str) -> Path:
        """Return the file of the settings and the code that a stage depends on, such as `train/mvtec`."""
        return self.root / "data" / "code" / f"{stage}.txt"

    def split(self, benchmark: str) -> Path:
        """Return the folder of a benchmark's split table (and masks, where the benchmark draws them)."""
        return self.root / "data" / "splits" / benchmark

    def features(self, benchmark: str) -> Path:
        """Return the folder of a benchmark's feature shards."""
        return self.root / "data" / "features" / benchmark

    def model(self, benchmark: str) -> Path:
        """Return the folder of a benchmark's trained model."""
        return self.root / "models" / benchmark

    def snapshots(self, benchmark: str) -> Path:
        """Return the folder of the models of a benchmark's further seeds, and of earlier states of all."""
        return self.root / "data" / "snapshots" / benchmark

    def calibration(self, benchmark: str) -> Path:
        """Return the file of the thresholds that go with a benchmark's model."""
        return self.model(benchmark) / CALIBRATION_FILE

    def scores(self, benchmark: str) -> Path:
        """Return the folder of a benchmark's anomaly maps and image scores."""
        return self.root / "data" / "scores" / benchmark

    @property
    def reports(self) -> Path:
        """The folder of everything that people read."""
        return self.root / "reports"

    def metrics(self, benchmark: str) -> Path:
        """Return the file of all metrics of a benchmark."""
        return self.reports / "metrics" / f"{benchmark}.json"

    def trainings(self, benchmark: str) -> Path:
        """Return the file of the metrics of a benchmark's further seeds, and of earlier states of all."""
        return self.reports / "trainings" / f"{benchmark}.json"

    def summary(self, benchmark: str) -> Path:
        """Return the file of the few numbers that `dvc metrics show` prints: percent, by the protocol that the folder is named after."""
        return self.reports / "paper" / f"{benchmark}.json"

    def cost(self, benchmark: str) -> Path:
        """Return the file of what a benchmark's model costs."""
        return self.reports / "cost" / f"{benchmark}.json"

    def curves(self, benchmark: str) -> Path:
        """Return the file of all curves of each class of a benchmark."""
        return self.root / "data" / "curves" / f"{benchmark}.json"

    def mean_curves(self, benchmark: str) -> Path:
        """Return the folder of the curves that `dvc plots show` draws: the mean over the classes, a CSV file each."""
        return self.reports / "curves" / benchmark

    def loss(self, benchmark: str) -> Path:
        """Return the loss curve of a benchmark's training."""
        return self.reports / "loss" / f"{benchmark}.csv"

    @property
    def supervised(self) -> Path:
        """The folder of what supervised methods gave, a JSON file each."""
        return self.reports / "supervised"

    @property
    def ablations(self) -> Path:
        """The folder of the tables and figures of ablation studies."""
        return self.reports / "ablations"

    @property
    def private(self) -> Path:
        """What is neither an input nor an output of a stage: checkpoints, studies, logs, records of the runs."""
        return self.root / ".invad"
