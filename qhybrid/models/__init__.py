"""Models by name, and the parts they are made of.

`build_model`, `list_models` and `use_engine` are what users of a model need; `register_model` adds one.
Parts: the U-Nets (`UNet`, `QuUNet`) around any bottleneck, `build_bottleneck`, `SkipGate`, `build_skips`, the
classifiers' filter and heads.
"""

from qhybrid.models.bottlenecks import BottleneckOptions, build_bottleneck
from qhybrid.models.build import (
    build_for_engine,
    build_model,
    check_task,
    complete_model,
    list_models,
    resolve_model,
    use_engine,
    use_engine_alone,
)
from qhybrid.models.circuit_part import Circuit, Circuits, PartOptions, circuit_layer, circuit_spec
from qhybrid.models.classifier_keys import FilterPart, HeadOptions
from qhybrid.models.encoder import PretrainedEncoder
from qhybrid.models.encoder_keys import EncoderOptions, check_begins, encoder_hash, kept_model, with_values
from qhybrid.models.heads import ExpectationHead, LinearHead, build_head
from qhybrid.models.qu_unet import QuUNet, QuUNetKeys
from qhybrid.models.registry import MODELS, ModelEntry, register_model
from qhybrid.models.section_files import circuits_changed, circuits_hash, has_code_of_others
from qhybrid.models.skips import SkipGate, SkipOptions, build_skips
from qhybrid.models.unet import UNet, UNetKeys

__all__ = [
    "MODELS",
    "BottleneckOptions",
    "Circuit",
    "Circuits",
    "EncoderOptions",
    "ExpectationHead",
    "FilterPart",
    "HeadOptions",
    "LinearHead",
    "ModelEntry",
    "PartOptions",
    "PretrainedEncoder",
    "QuUNet",
    "QuUNetKeys",
    "SkipGate",
    "SkipOptions",
    "UNet",
    "UNetKeys",
    "build_bottleneck",
    "build_for_engine",
    "build_head",
    "build_model",
    "build_skips",
    "check_begins",
    "check_task",
    "circuit_layer",
    "circuit_spec",
    "complete_model",
    "circuits_changed",
    "circuits_hash",
    "has_code_of_others",
    "encoder_hash",
    "kept_model",
    "list_models",
    "register_model",
    "resolve_model",
    "use_engine",
    "use_engine_alone",
    "with_values",
]
