"""The typed, frozen recipe tree. A key's default and meaning stand at its field; `conf/base` is a recipe like any other
and gives no defaults.

What all modalities share is here; what one modality adds (its sources, encoder, masks) is declared in
`d2v.modalities.<name>.config`. Unknown keys are refused. `parse` reports every error at once, each with the
dotted key, the given value, what is allowed and the nearest known key.
"""

from d2v.config.benchmark import BenchmarkConfig, TrialsConfig
from d2v.config.blocks import Block, Fraction, NonNegative, NonNegativeInt, Positive, PositiveInt
from d2v.config.changes import changed
from d2v.config.cluster import ClusterConfig, Engine
from d2v.config.derive import read_recipe
from d2v.config.efficiency import EfficiencyConfig
from d2v.config.evaluation import EvaluateConfig
from d2v.config.finetuning import (
    ClassificationTask,
    DecodingConfig,
    FeatureMaskConfig,
    FinetuneConfig,
    HeadConfig,
    LabelConfig,
    MixConfig,
    MultilabelTask,
    RegressionTask,
    TaskConfig,
    TranscriptionTask,
    ValidationConfig,
)
from d2v.config.ingest import ColumnsConfig
from d2v.config.objectives import (
    BeitConfig,
    Data2Vec1Config,
    Data2Vec2Config,
    DecoderConfig,
    EmaConfig,
    HubertConfig,
    LossConfig,
    MaeConfig,
    MaeDecoderConfig,
    MaskFeatConfig,
    MlmConfig,
    ObjectiveConfig,
    QuantizerConfig,
    TargetConfig,
    Wav2Vec2Config,
)
from d2v.config.parsing import parse, smallest
from d2v.config.promotion import PromoteConfig
from d2v.config.renaming import current_names, first_names
from d2v.config.retraining import DriftConfig, RetrainConfig
from d2v.config.training import (
    RESULT_NEUTRAL,
    BatchBudget,
    CheckpointConfig,
    DistributedConfig,
    MonitorConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    TrainConfig,
)
from d2v.config.updates import updates_of

__all__ = [
    "RESULT_NEUTRAL",
    "BatchBudget",
    "BeitConfig",
    "BenchmarkConfig",
    "Block",
    "CheckpointConfig",
    "ClassificationTask",
    "ClusterConfig",
    "ColumnsConfig",
    "Data2Vec1Config",
    "Data2Vec2Config",
    "DecoderConfig",
    "DecodingConfig",
    "DistributedConfig",
    "DriftConfig",
    "EfficiencyConfig",
    "EmaConfig",
    "Engine",
    "EvaluateConfig",
    "FeatureMaskConfig",
    "FinetuneConfig",
    "Fraction",
    "HeadConfig",
    "HubertConfig",
    "LabelConfig",
    "LossConfig",
    "MaeConfig",
    "MaeDecoderConfig",
    "MaskFeatConfig",
    "MixConfig",
    "MlmConfig",
    "MonitorConfig",
    "MultilabelTask",
    "NonNegative",
    "NonNegativeInt",
    "ObjectiveConfig",
    "OptimizerConfig",
    "Positive",
    "PositiveInt",
    "PromoteConfig",
    "QuantizerConfig",
    "RegressionTask",
    "RetrainConfig",
    "RunConfig",
    "ScheduleConfig",
    "TargetConfig",
    "TaskConfig",
    "TrainConfig",
    "TranscriptionTask",
    "TrialsConfig",
    "ValidationConfig",
    "Wav2Vec2Config",
    "changed",
    "current_names",
    "first_names",
    "parse",
    "read_recipe",
    "smallest",
    "updates_of",
]
