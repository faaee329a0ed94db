"""The one configuration tree: YAML plus dotted overrides, frozen, unknown keys refused.

`load_config("demo.yaml", ["vae.num_layers=2"])` loads it. Every job reads the sections it needs.
"""

from pipeline.config.comparison import CompareConfig, GraftConfig, ReproduceConfig, Variant
from pipeline.config.data import DataConfig, FilterConfig, PrepareConfig, SegmenterConfig, TokenizerConfig
from pipeline.config.inference import EvaluateConfig, GenerateConfig, ModelsConfig
from pipeline.config.infrastructure import DeepSpeedConfig, RayConfig, RunConfig, TrackingConfig
from pipeline.config.models import LmConfig, SllmConfig, TrainConfig, TrunkConfig, VaeConfig
from pipeline.config.section import Section
from pipeline.config.segmenter_training import SegmenterSource, SegmenterTrainConfig
from pipeline.config.stream import StreamConfig
from pipeline.config.tree import Config, load_config, override, undone

__all__ = [
    "CompareConfig",
    "Config",
    "DataConfig",
    "DeepSpeedConfig",
    "EvaluateConfig",
    "FilterConfig",
    "GenerateConfig",
    "GraftConfig",
    "LmConfig",
    "ModelsConfig",
    "PrepareConfig",
    "RayConfig",
    "ReproduceConfig",
    "RunConfig",
    "Section",
    "SegmenterConfig",
    "SegmenterSource",
    "SegmenterTrainConfig",
    "SllmConfig",
    "StreamConfig",
    "TokenizerConfig",
    "TrackingConfig",
    "TrainConfig",
    "TrunkConfig",
    "VaeConfig",
    "Variant",
    "load_config",
    "override",
    "undone",
]
