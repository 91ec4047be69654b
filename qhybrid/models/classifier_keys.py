"""Keys of the image classifiers: sizes, fixed filter, convolutions, dense layers, head."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from qhybrid.config import StrictModel
from qhybrid.models.circuit_part import Circuit, PartOptions, circuit_spec, named_part, near_square

Shape = tuple[int, int, int]
"""Channels, height, width."""

Logits = Literal["margin", "direct", "linear"]


class FilterPart(PartOptions):
    """A fixed circuit, or a classical filter, that slides over the image.

    Attributes:
        circuit: Name of a circuit, the file of its definition, or a section with `name` and `arguments`; it
            has one input a pixel of a patch. Its weights, if it has any, stay at their random initial values.
        name: `products`, in place of a circuit: the pixels of a patch as they are, and all products of two.
        patch: Height and width of a patch; as square as possible by default, 2 x 2 of `products`.
        stride: Pixels from one patch to the next.
    """

    circuit: Circuit | None = None
    name: Literal["products"] | None = None
    patch: tuple[int, int] | None = None
    stride: int = Field(2, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _is_a_section(cls, content: Any) -> Any:
        return named_part(content, ("products",))

    @model_validator(mode="after")
    def _patch_fits_the_circuit(self) -> FilterPart:
        if (self.circuit is None) == (self.name is None):
            raise ValueError("give either `circuit` or `name: products`")
        if self.circuit is None:
            patch = self.patch or (2, 2)
            inputs, what = patch[0] * patch[1], "`name: products`"
        else:
            spec = circuit_spec(self.circuit)
            patch, inputs = self.patch or near_square(max(1, spec.num_inputs)), spec.num_inputs
            what = f"circuit `{spec.name}`"
        if min(patch) < 1 or patch[0] * patch[1] != inputs:
            raise ValueError(
                f"{what} must have one input for each pixel of the {patch[0]} x {patch[1]} `patch`, but has "
                f"{inputs}"
            )
        self.__dict__["patch"] = patch
        return self


class HeadOptions(PartOptions):
    """What ends the classifier: `dense`, or a trained circuit.

    Attributes:
        name: `dense`, or `layered`, the classical stand-in for `qcq_classifier`. `dense` if there is no
            circuit.
        circuit: Name of a circuit, the file of its definition, or a section with `name` and `arguments`. A
            dense layer makes its inputs.
        latent: What the circuit's inputs go through: `linear` takes them as angles, `tanh` bounds them to
            +-latent_scale.
        latent_scale: Factor from them to angles in radians.
        logits: How K logits come from the observables: `margin` gives (m, -m) of one observable, `direct`
            one logit an observable, `linear` a dense layer. By default the first of them that is possible.
        logit_scale: Factor on an expectation value plus bias, with `margin` and `direct`; 1 by default.
        trainable_scale: Whether that factor is trained.
        reps: Repetitions of `layered`; 2 by default.
        frozen: Keep the circuit at its random initial angles (an ablation).
    """

    name: Literal["dense", "layered"] | None = None
    circuit: Circuit | None = None
    latent: Literal["linear", "tanh"] = "linear"
    latent_scale: float = Field(1.0, gt=0)
    logits: Logits | None = None
    logit_scale: float = Field(1.0, gt=0)
    trainable_scale: bool = False
    reps: int | None = Field(None, ge=0)
    frozen: bool = False

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, content: Any) -> Any:
        return named_part(content, ("dense", "layered"))

    @model_validator(mode="after")
    def _keys_fit(self) -> HeadOptions:
        if self.name is not None and self.circuit is not None:
            raise ValueError(f"give either `circuit` or `name`, but not both (`name` is {self.name})")
        if self.circuit is not None and not circuit_spec(self.circuit).num_inputs:
            raise ValueError(f"circuit `{circuit_spec(self.circuit).name}` must have inputs, but has none")
        if self.reps is not None and self.name != "layered":
            raise ValueError("`reps` is for `name: layered`; a circuit has its own")
        given = self.model_fields_set - {"name", "circuit"}
        if self.dense and any(getattr(self, key) is not None for key in given):
            raise ValueError(f"a dense head has no key {', '.join(f'`{key}`' for key in sorted(given))}")
        if self.frozen and self.circuit is None:
            raise ValueError("`frozen` is for circuits, and means nothing for `name: layered`")
        if self.logits == "linear" and (self.trainable_scale or self.logit_scale != 1):
            raise ValueError("`logits: linear` has no scale: leave out `logit_scale` and `trainable_scale`")
        return self

    @model_serializer(mode="wrap")
    def _without_absent_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        if self.dense:
            return {"name": "dense"}
        return {key: value for key, value in dump(self).items() if value is not None}

    @property
    def dense(self) -> bool:
        """Whether dense layers end the classifier."""
        return self.circuit is None and self.name != "layered"

    def with_logits(self, num_classes: int) -> HeadOptions:
        """Return the section with the way from observables to logits decided.

        Raises:
            ValueError: If the one that is asked for is not possible.
        """
        if self.dense:
            return HeadOptions(name="dense")
        outputs = 1 if self.circuit is None else circuit_spec(self.circuit).num_observables
        possible: dict[Logits, bool] = {
            "margin": outputs == 1 and num_classes == 2,
            "direct": outputs == num_classes,
            "linear": True,
        }
        first = next(way for way, fits in possible.items() if fits)
        chosen = first if self.logits is None else self.logits
        if not possible[chosen]:
            raise ValueError(
                f"`logits: {chosen}` is not possible with {outputs} observable(s) and {num_classes} classes. "
                "Fix: `logits: linear`"
            )
        return self.model_copy(update={"logits": chosen})


class ClassifierOptions(StrictModel):
    """Keys of every image classifier.

    Attributes:
        in_channels: Channels of the image.
        num_classes: Classes to tell apart.
        image_size: Height and width of images in pixels.
    """

    in_channels: int = Field(ge=1)
    num_classes: int = Field(ge=2)
    image_size: tuple[int, int]

    @model_validator(mode="after")
    def _image_has_pixels(self) -> ClassifierOptions:
        if min(self.image_size) < 1:
            raise ValueError(f"`image_size` must be at least 1 x 1, but is {self.image_size}")
        return self

    @property
    def image_shape(self) -> Shape:
        """Channels, height and width of an image."""
        return (self.in_channels, *self.image_size)

    @property
    def filter_part(self) -> FilterPart | None:
        """The fixed filter in front of everything, if there is one."""
        return None

    @property
    def head_part(self) -> HeadOptions:
        """What ends the classifier."""
        return HeadOptions(name="dense")


class BinaryOptions(ClassifierOptions):
    """Keys of classifiers whose circuit gives one number, which tells two classes apart.

    Attributes:
        logit_scale: Factor on the expectation value plus bias, which is about 1 at most; it gives the logits
            (m, -m).
        trainable_scale: Whether the factor is trained.
    """

    logit_scale: float = Field(1.0, gt=0)
    trainable_scale: bool = False

    @model_validator(mode="after")
    def _two_classes(self) -> BinaryOptions:
        if self.num_classes != 2:
            raise ValueError(
                f"`num_classes` must be 2, since one expectation value tells two classes apart, but is "
                f"{self.num_classes}"
            )
        return self


class DenseOptions(StrictModel):
    """Keys of the dense layers.

    Attributes:
        hidden: Sizes of dense layers before the last one, each with ReLU.
        dropout: Share of features that are dropped in front of each dense layer while training.
    """

    hidden: tuple[int, ...] = ()
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _hidden_layers_have_units(self) -> DenseOptions:
        if self.hidden and min(self.hidden) < 1:
            raise ValueError(f"`hidden` must be at least 1 each, but is {self.hidden}")
        return self


class ConvOptions(DenseOptions):
    """Keys of the convolutional network.

    Attributes:
        channels: Filters of the convolutions, each followed by ReLU and 2x2 max pooling.
        kernel: Side of the convolutions, odd; borders are padded with zeros.
        batch_norm: Normalise after each convolution.
    """

    channels: tuple[int, ...] = Field((16, 32), min_length=1)
    kernel: int = Field(3, ge=1)
    batch_norm: bool = False

    @model_validator(mode="after")
    def _convolutions_are_possible(self) -> ConvOptions:
        if min(self.channels, default=1) < 1:
            raise ValueError(f"`channels` must be at least 1 each, but are {self.channels}")
        if self.kernel % 2 == 0:
            raise ValueError(f"`kernel` must be odd, but is {self.kernel}")
        return self
