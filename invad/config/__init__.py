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
    AS_STORED,
    BenchmarkConfig,
    CalibrationConfig,
    CocoAdSplitConfig,
    DownloadConfig,
    FeaturesConfig,
    FolderSplitConfig,
    LabelledConfig,
    LabelledSplitConfig,
    Params,
    ReadingConfig,
    RealIadSplitConfig,
    ResourcesConfig,
    ScoreConfig,
    SupervisedConfig,
    TableSplitConfig,
    TrainingConfig,
    TuneConfig,
    VadSplitConfig,
    WorkersConfig,
    dataset_kind,
    reading_of,
)
from invad.config.types import STRICT, ComputeConfig, Precision, check_image_size
