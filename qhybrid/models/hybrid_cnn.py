"""Image classifiers: a fixed filter or none, convolutions or none, and a head that is a circuit or dense.

`hybrid_cnn` names its parts freely. QCQ-CNN and the models that it is compared with are choices of parts.
"""

from __future__ import annotations

from collections import OrderedDict

from pydantic import model_validator
from torch import nn

from qhybrid.engines.base import Engine
from qhybrid.models.classifier_keys import (
    ClassifierOptions,
    ConvOptions,
    DenseOptions,
    FilterPart,
    HeadOptions,
)
from qhybrid.models.classifier_parts import CheckedImages
from qhybrid.models.fixed_filter import FixedFilterModel, build_filter
from qhybrid.models.heads import build_head, head_core


class HybridCNNOptions(ClassifierOptions, ConvOptions):
    """Keys of `hybrid_cnn`.

    Attributes:
        channels: Filters of the convolutions, each followed by ReLU and 2x2 max pooling; an empty list leaves
            them out.
        filter: Fixed quantum filter in front of everything; none by default.
        head: What ends the classifier: `dense` (the default) or a trained circuit.
    """

    channels: tuple[int, ...] = (16, 32)
    filter: FilterPart | None = None
    head: HeadOptions = HeadOptions()

    @model_validator(mode="after")
    def _parts_fit(self) -> HybridCNNOptions:
        self.__dict__["head"] = self.head.with_logits(self.num_classes)
        if self.filter is not None and any(
            patch > size for patch, size in zip(self.filter.patch or (), self.image_size, strict=True)
        ):
            raise ValueError(
                f"`filter.patch` {self.filter.patch} must be at most the image, {self.image_size[0]} x "
                f"{self.image_size[1]}"
            )
        return self

    @property
    def filter_part(self) -> FilterPart | None:
        """The fixed filter."""
        return self.filter

    @property
    def head_part(self) -> HeadOptions:
        """What ends the classifier."""
        return self.head


def build_classifier(options: ClassifierOptions, engine: Engine | None = None) -> nn.Module:
    """Build a classifier of the parts that its keys mean, on an engine (the exact one if None).

    Its quantum layers are `quanvolution.filter` and `head.classifier.circuit`, where they are circuits.
    """
    core = head_core(options.head_part, engine)
    keys: object = options
    network = keys if isinstance(keys, DenseOptions) else DenseOptions()
    if options.filter_part is not None:
        layer, shape = build_filter(options.filter_part, options.image_shape, engine)
        head = build_head(options.head_part, core, shape, network, options.num_classes)
        return FixedFilterModel(layer, head, options.image_shape)
    check = CheckedImages(options.image_shape)
    head = build_head(options.head_part, core, options.image_shape, network, options.num_classes)
    return nn.Sequential(check, head) if core is None else nn.Sequential(OrderedDict(check=check, head=head))
