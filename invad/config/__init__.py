"""`params.yaml` as frozen dataclasses, checked as a whole."""

from invad.config.loading import load_params, parse
from invad.config.methods import (
    TRAIN_CONFIGS,
    DeSTSegConfig,
    DinomalyConfig,
    DRAEMConfig,
    GradientConfig,
    InvADConfig,
    MVADConfig,
    PatchCoreConfig,
    RDConfig,
    SimpleNetConfig,
    ToCoADConfig,
    TrainConfig,
    UniADConfig,
)
from invad.config.sections import (
    BenchmarkConfig,
    CalibrationConfig,
    DownloadConfig,
    FeaturesConfig,
    Params,
    ResourcesConfig,
    ScoreConfig,
    SupervisedConfig,
    TrainingConfig,
    TrainingsConfig,
    TuneConfig,
    WorkersConfig,
    dataset_kind,
)
from invad.config.splits import (
    AS_STORED,
    CocoAdSplitConfig,
    FolderSplitConfig,
    LabelledConfig,
    LabelledSplitConfig,
    ReadingConfig,
    RealIadSplitConfig,
    TableSplitConfig,
    VadSplitConfig,
    reading_of,
)
from invad.config.types import STRICT, ComputeConfig, Precision, check_image_size
