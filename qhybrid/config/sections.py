"""The sections of a recipe, each a pydantic model that refuses unknown keys.

Keys that belong to one model or one data set alone
(`model: {...}`, `data: {options: {...}}`) are checked by that model's or data set's own options class.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    field_validator,
    model_validator,
)

from qhybrid.config.data_sections import DataConfig
from qhybrid.config.strict import GrowingSection, NoSwitch, StrictModel
from qhybrid.engine_kinds import check_engine


class EngineConfig(StrictModel):
    """What executes the circuits: passed on to `qhybrid.engines.make_engine`.

    Attributes:
        kind: `exact`, `aer`, or `routed` (as a device executes it: `options: {backend: fake_torino}`), or a
            plugin's engine.
        noise: Noise profile of gates and read-outs: a YAML file, or a name in noise_profiles/ (see
            `qhybrid noise list`).
        shots: Samples that an expectation value is estimated from, for engines that can; absent: exact
            values.
        seed: Seed of the shots; in training each epoch has its own that follows from it, but for a fixed
            filter on images without augmentation: its shots are drawn once for all epochs. Absent: the
            recipe's `seed`.
        layers: Names of the quantum layers that this engine executes, as in `[head.classifier.circuit]`; the
            others run on the exact engine without noise. All if absent.
        options: The engine's own options, such as `method: statevector` of `aer`.
    """

    kind: Annotated[str, AfterValidator(check_engine)] = "exact"
    noise: str | None = None
    shots: Annotated[int | None, NoSwitch] = Field(None, ge=1)
    seed: Annotated[int | None, NoSwitch] = Field(None, ge=0)
    layers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `make_engine`."""
        return {
            "kind": self.kind,
            "noise": self.noise,
            "shots": self.shots,
            "seed": self.seed,
            **self.options,
        }


ClassWeights = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]


class LossConfig(GrowingSection):
    """Weighted sum of cross-entropy (or focal loss) and Dice loss.

    Attributes:
        cross_entropy: Weight of the cross-entropy.
        dice: Weight of the Dice loss.
        class_weights: Weights of the classes in the cross-entropy: `none`, `balanced` (inverse frequency in
            the training split), `sqrt_balanced` (its square root), or one number a class. They are normalised
            to mean 1.
        label_smoothing: Of the cross-entropy.
        focal_gamma: Makes a focal loss of the cross-entropy (arXiv 1708.02002): pixels whose class has
            probability p count (1 - p)^gamma times, so that what is right already counts less. 0 is the
            cross-entropy; 2 is common for rare classes.
    """

    later_keys: ClassVar[tuple[str, ...]] = ("focal_gamma",)

    cross_entropy: float = Field(1.0, ge=0)
    dice: float = Field(1.0, ge=0)
    class_weights: Literal["none", "balanced", "sqrt_balanced"] | ClassWeights = "sqrt_balanced"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    focal_gamma: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _something_is_left(self) -> LossConfig:
        if self.focal_gamma and not self.cross_entropy:
            raise ValueError("focal_gamma changes the cross-entropy, but cross_entropy is 0")
        if self.focal_gamma and self.label_smoothing:
            raise ValueError("focal_gamma and label_smoothing exclude each other: set one of them to 0")
        if self.cross_entropy + self.dice == 0:
            raise ValueError("cross_entropy and dice are both 0: nothing would be trained")
        if isinstance(self.class_weights, tuple) and sum(self.class_weights) == 0:
            raise ValueError("class_weights are all 0: nothing would be trained")
        return self


class TrainingConfig(StrictModel):
    """How weights are found.

    Attributes:
        start: A run folder whose weights training starts from, or runs/NAME for its newest run; absent:
            random weights.
        epochs: Epochs at most.
        batch_size: Patches in one step.
        learning_rate: Peak learning rate of AdamW; the default is the best of three rates on five data sets
            (docs/results/default_rates.md).
        quantum_learning_rate: Peak learning rate of circuit weights; absent: the same as `learning_rate`.
        weight_decay: Of AdamW; norms, biases and circuit weights are exempt.
        schedule: Learning rate over the steps, after `warmup` (a fraction of all steps).
        warmup: Fraction of all steps over which the learning rate rises linearly.
        gradient_clip: Largest gradient norm; 0 switches clipping off.
        weight_average: Decay per step of an exponential moving average of the weights, which is then what is
            validated and kept; 0 switches it off. 0.99 averages over the last hundred steps.
        loss: The loss. For data sets of whole images `dice` is 0 and `class_weights` is none unless given.
        early_stopping: Epochs without a better validation metric after which training ends; 0 switches it
            off. The metric is the mIoU of scenes, the accuracy of classified images, the soft IoU of
            segmented ones.
        keep: The weights that a run is used with: those of the `best` epoch by that metric, or of the `last`
            one. On a small validation split the best epoch may be an early one at random. With `last` no
            others are written.
        accelerator: Where to train.
        precision: `auto` is bf16 (else fp16) mixed precision on a GPU and 32 bit on a CPU; `bf16-if-native`
            is `bf16-mixed` on a processor or GPU with arithmetic for it and `32-true` elsewhere, where it
            would be many times slower. Circuits always run in at least 32 bit.
        channels_last: Keep images in channels-last memory order (faster convolutions).
        threads: CPU threads for torch; 0 leaves torch's default.
        loggers: Further loggers beside the CSV file that is always written.
        progress: Show progress bars.
    """

    start: str | None = None
    epochs: int = Field(30, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    quantum_learning_rate: float | None = Field(None, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = Field(0.05, ge=0, lt=1)
    gradient_clip: float = Field(1.0, ge=0)
    weight_average: float = Field(0.0, ge=0, lt=1)
    loss: LossConfig = LossConfig()
    early_stopping: int = Field(0, ge=0)
    keep: Literal["best", "last"] = "best"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "bf16-if-native"] = "auto"
    channels_last: bool = True
    threads: int = Field(0, ge=0)
    loggers: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    progress: bool = True


class PredictionConfig(StrictModel):
    """How whole scenes are mapped.

    Attributes:
        overlap: Fraction of a window that neighbours share.
        batch_size: Windows in one forward pass.
        orientations: Average the probabilities over this many orientations of each window: 1, 4 (rotations by
            90 degrees) or 8 (also mirrored). Costs as many times the forward passes, circuits included.
    """

    overlap: float = Field(0.5, ge=0, le=0.9)
    batch_size: int = Field(16, ge=1)
    orientations: Literal[1, 4, 8] = 1


class AblationConfig(GrowingSection):
    """What `qhybrid ablate` decides by; it is stated before the first result.

    Attributes:
        margin: Differences up to it do not matter, in the metric's own numbers: 0.005 is 0.005 of mIoU, and
            0.5 points of accuracy.
        metric: What is compared; by default the mIoU of scenes, the soft IoU of segmented images, the
            accuracy of classified ones.
        models: Other models in the same table: a name that is no arm's, and a whole section `model`.
    """

    later_keys: ClassVar[tuple[str, ...]] = ("models",)

    margin: float = Field(0.005, gt=0, allow_inf_nan=False)
    metric: str | None = None
    models: dict[str, dict[str, Any]] = Field({})

    @field_validator("models")
    @classmethod
    def _models_are_named(cls, models: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, section in models.items():
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
                raise ValueError(f"names must be letters, digits, _ . and -, but one is {name!r}")
            if "name" not in section:
                raise ValueError(f"`{name}` must be a whole section `model` with a `name`, but has none")
        return models


class Recipe(GrowingSection):
    """A whole run: `qhybrid train runs/NAME.yaml`.

    Attributes:
        name: Names the folder below runs/ that results go to.
        description: One sentence for readers.
        seed: Decides initial weights, patches and augmentation, and the shots where `engine.seed` is absent.
        data: Which images, which labels.
        model: `name` of a model, and its own keys; what the data decide (`in_channels`, `num_classes`,
            `patch_size`) is filled in.
        engine: What executes the circuits.
        training: How weights are found.
        prediction: How whole scenes are mapped.
        ablation: What `qhybrid ablate` decides by.
    """

    later_keys: ClassVar[tuple[str, ...]] = ("ablation",)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    seed: int = Field(0, ge=0)
    data: DataConfig
    model: dict[str, Any]
    engine: EngineConfig = EngineConfig()
    training: TrainingConfig = TrainingConfig()
    prediction: PredictionConfig = PredictionConfig()
    ablation: AblationConfig = AblationConfig()

    @field_validator("model")
    @classmethod
    def _model_has_a_name(cls, model: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(model.get("name"), str):
            raise ValueError("key `name` is missing (see `qhybrid.models.list_models()`)")  # noqa: TRY004
        return model
