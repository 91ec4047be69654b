"""What stands at the bottleneck of a U-Net: any circuit or a classical part, behind a grid or patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator
from torch import nn

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.base import Engine
from qhybrid.layers import ExpertBottleneck, GridBottleneck, PairwiseFilter, QuFeXBottleneck, SeparableFilter
from qhybrid.layers.controls import ZeroFilter
from qhybrid.layers.experts import GATE_ANGLE
from qhybrid.layers.patches import PatchLayout
from qhybrid.models.circuit_part import (
    Circuits,
    PartOptions,
    cells_of,
    circuit_layer,
    circuit_spec,
    named_part,
    near_square,
)

Core = Literal["conv", "identity", "zero", "separable", "pairwise"]
Interface = Literal["grid", "patches", "experts"]

_KEYS: dict[str | None, frozenset[str]] = {
    "grid": frozenset({"grid", "features", "angle_scale", "post_q"}),
    "patches": frozenset({"patch", "maps", "filters"}),
    "experts": frozenset(
        {"grid", "features", "angle_scale", "post_q", "top_k", "balance", "off", "gate_angle"}
    ),
    None: frozenset(),
}
_INTERFACES: dict[Core, tuple[Interface | None, ...]] = {
    "conv": (None,),
    "identity": (None, "grid", "patches"),
    "zero": (None, "grid", "patches"),
    "separable": ("grid",),
    "pairwise": ("patches",),
}
_GRID, _FEATURES, _PATCH = (4, 4), 3, (2, 2)
BALANCE = 0.01
"""Factor of the load-balancing term, that of Switch Transformers (arXiv 2101.03961, section 2.2)."""


class BottleneckOptions(PartOptions):
    """What stands at the bottleneck: `circuit`, or a classical part by `name`.

    Attributes:
        name: `conv` (the U-Net's own deepest block), `identity` (hands its inputs on), `zero`, `separable`
            (the classical filter of `hq_unet_twin`) or `pairwise` (that of `qu_net_twin`). `conv` if there
            is no circuit.
        circuit: Name of a circuit, the file of its definition, or a section with `name` and `arguments` that
            replace its own; with patches also a list of circuits side by side.
        interface: `grid` as in HQ-UNet: the feature map is averaged to cells, a 1x1 convolution and tanh
            make angles of them, a linear layer makes a feature map of the circuit's values. `patches` as in
            Qu-Net: x + Q(x) on patches of the feature map, with one observable an input. `experts`: several
            circuits behind one grid, mixed by a router (QMoE of HQF-Net, our reconstruction). `grid`, unless
            keys of patches or of experts are given.
        grid: Rows and columns of cells, or one number for both. One cell a qubit where the qubits divide the
            inputs, else one an input, and as square as possible.
        features: Features of a cell; cells x features are the circuit's inputs, cell by cell.
        angle_scale: Factor from the tanh output, in [-1, 1], to the input angle in radians; 1 by default.
        post_q: `full` is HQ-UNet's linear layer to the whole feature map and fixes the size of images;
            `grid` makes one value a cell, resizes, and takes any size. `full` by default.
        patch: Height and width of a patch, in pixels of the feature map; as square as possible by default.
        maps: Feature maps that share a patch; patch height x width x maps are the circuit's inputs. 1 by
            default.
        filters: Copies of a single circuit side by side, each with its own weights; 1 by default.
        top_k: Experts that are mixed for one image; all of them by default.
        balance: Factor in the loss of K sum_k f_k P_k - 1, which is zero where the router gives all K
            experts equal parts; 0.01 by default, 0 leaves it out.
        off: Names of experts that are left out (an ablation).
        gate_angle: Initial angle in radians of each expert's gate; the bottleneck is the identity where all
            of them are zero. 0.1 by default.
        frozen: Keep the circuits at their random initial angles (an ablation).
    """

    name: Core | None = None
    circuit: Circuits | None = None
    interface: Interface | None = None
    grid: tuple[int, int] | None = None
    features: int | None = Field(None, ge=1)
    angle_scale: float | None = Field(None, gt=0)
    post_q: Literal["full", "grid"] | None = None
    patch: tuple[int, int] | None = None
    maps: int | None = Field(None, ge=1)
    filters: int | None = Field(None, ge=1)
    top_k: int | None = Field(None, ge=1)
    balance: float | None = Field(None, ge=0)
    off: tuple[str, ...] | None = None
    gate_angle: float | None = None
    frozen: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, content: Any) -> Any:
        return named_part(content, get_args(Core))

    @field_validator("grid", mode="before")
    @classmethod
    def _square(cls, grid: Any) -> Any:
        return (grid, grid) if isinstance(grid, int) else grid

    @model_validator(mode="after")
    def _complete(self) -> BottleneckOptions:
        """Check that the keys fit together, and fill in what follows from the circuit."""
        if self.name is not None and self.circuit is not None:
            raise ValueError(f"give either `circuit` or `name`, but not both (`name` is {self.name})")
        name: Core | None = self.name or (None if self.circuit is not None else "conv")
        interface = self._interface(name)
        given = {key for keys in _KEYS.values() for key in keys if getattr(self, key) is not None}
        misplaced = sorted(given - _KEYS[interface])
        if misplaced:
            what = f"`interface: {interface}`" if interface else f"`name: {name}` without `interface`"
            raise ValueError(f"{what} has no key {', '.join(f'`{key}`' for key in misplaced)}")
        if self.frozen is not None and self.circuit is None:
            raise ValueError(f"`frozen` is for circuits, and means nothing for `name: {name}`")
        for key in ("grid", "patch"):
            if min(getattr(self, key) or (1, 1)) < 1:
                raise ValueError(f"`{key}` must be at least 1 x 1")
        self._fill(name=name, interface=interface)
        completions = {
            "grid": self._complete_grid,
            "patches": self._complete_patches,
            "experts": self._complete_experts,
        }
        completions.get(interface or "", lambda: None)()
        if self.circuit is not None:
            self._fill(frozen=bool(self.frozen))
        return self

    def _fill(self, **values: Any) -> None:
        """Set keys of this frozen section while it is being checked."""
        self.__dict__.update(values)

    def _interface(self, name: Core | None) -> Interface | None:
        """Return the interface that is given, or that the other keys speak for."""
        of_circuits: tuple[Interface | None, ...] = ("grid", "patches", "experts")
        allowed = of_circuits if name is None else _INTERFACES[name]
        if self.interface is not None:
            if self.interface not in allowed:
                raise ValueError(f"`interface: {self.interface}` is not possible with `name: {name}`")
            return self.interface
        if any(getattr(self, key) is not None for key in _KEYS["experts"] - _KEYS["grid"]):
            implied: Interface | None = "experts"
        elif len(self.contents) > 1 or any(getattr(self, key) is not None for key in _KEYS["patches"]):
            implied = "patches"
        else:
            cells = any(getattr(self, key) is not None for key in _KEYS["grid"])
            implied = "grid" if cells else allowed[0]
        return implied if implied in allowed else allowed[0]

    @property
    def contents(self) -> tuple[dict[str, Any], ...]:
        """The circuits, in the order in which they stand side by side."""
        if self.circuit is None:
            return ()
        return self.circuit if isinstance(self.circuit, tuple) else (self.circuit,)

    @property
    def specs(self) -> tuple[CircuitSpec, ...]:
        """The built circuits."""
        return tuple(circuit_spec(content) for content in self.contents)

    def check_size(self, height: int, width: int) -> None:
        """Check that a feature map of this size can go through.

        Raises:
            ConfigError: If patches do not tile it.
        """
        if self.patch is not None:
            PatchLayout(self.patch[0], self.patch[1], self.maps or 1).check(height, width)

    def _complete_grid(self) -> None:
        self._fill(angle_scale=self.angle_scale or 1.0, post_q=self.post_q or "full")
        if not self.specs:
            self._fill(grid=self.grid or _GRID, features=self.features or _FEATURES)
            if self.name == "separable" and (self.grid[0] != self.grid[1] or self.features != 3):  # type: ignore[index]
                raise ValueError(
                    f"`name: separable` takes a square `grid` with 3 `features` a cell, but they are "
                    f"{self.grid} and {self.features}"
                )
            return
        if len(self.specs) > 1:
            raise ValueError("several circuits side by side need `interface: patches`")
        grid, features = cells_of(self.specs[0], self.grid, self.features)
        self._fill(grid=grid, features=features)

    def _complete_experts(self) -> None:
        names = self.expert_names
        unknown = sorted(set(self.off or ()) - set(names))
        if unknown:
            raise ValueError(f"`off` names {unknown[0]}, but the experts are {', '.join(names)}")
        left = len(names) - len(set(self.off or ()))
        if not left:
            raise ValueError("`off` leaves no expert. Fix: `bottleneck: identity`")
        if self.top_k is not None and self.top_k > left:
            raise ValueError(f"`top_k` is {self.top_k}, but there are {left} experts")
        specs = self.specs
        sizes = {(spec.num_inputs, spec.num_observables) for spec in specs}
        if len(sizes) > 1:
            raise ValueError(
                "experts must have equally many inputs and equally many observables, but have "
                + ", ".join(f"{spec.name} {spec.num_inputs} and {spec.num_observables}" for spec in specs)
            )
        grid, features = cells_of(specs[0], self.grid, self.features)
        self._fill(
            grid=grid,
            features=features,
            angle_scale=self.angle_scale or 1.0,
            post_q=self.post_q or "grid",
            balance=BALANCE if self.balance is None else self.balance,
            gate_angle=GATE_ANGLE if self.gate_angle is None else self.gate_angle,
        )

    @property
    def expert_names(self) -> tuple[str, ...]:
        """Names of the experts: those of their circuits, with a number where one is taken."""
        names: list[str] = []
        methods = set(dir(nn.ModuleDict()))  # of what holds the experts, as attributes of their names
        for content in self.contents:
            name = str(content.get("name") or circuit_spec(content).name).replace(".", "_")
            again = sum(one == name or one.startswith(f"{name}_") for one in names)
            free = (f"{name}_{number}" for number in count(again + 1))
            taken = again or name in methods
            names.append(next(one for one in free if one not in names) if taken else name)
        return tuple(names)

    def _complete_patches(self) -> None:
        maps = self.maps or 1
        if not self.specs:
            self._fill(patch=self.patch or _PATCH, maps=maps, filters=self.filters or 1)
            return
        if len(self.specs) > 1 and self.filters not in (None, len(self.specs)):
            raise ValueError(f"`filters` is {self.filters}, but `circuit` lists {len(self.specs)}")
        patch = self.patch or near_square(max(1, self.specs[0].num_inputs // maps))
        values = patch[0] * patch[1] * maps
        for spec in self.specs:
            if spec.num_inputs != values or spec.num_observables != values:
                raise ValueError(
                    f"circuit `{spec.name}` must have one input and one observable for each of the {values} "
                    f"values of a patch ({patch[0]} x {patch[1]} through {maps}), but has {spec.num_inputs} "
                    f"and {spec.num_observables}. Fix: another `patch` or `maps`, or `interface: grid`"
                )
        self._fill(patch=patch, maps=maps, filters=self.filters or len(self.specs))


def build_bottleneck(
    options: BottleneckOptions,
    channels: int,
    size: tuple[int, int],
    engine: Engine | None,
    conv: Callable[[], tuple[nn.Module, int]],
) -> tuple[nn.Module, int]:
    """Build a bottleneck.

    Args:
        options: The section.
        channels: Channels of the incoming feature map.
        size: Height and width of the feature map; `post_q: full` takes no other one.
        engine: What executes the circuits; the noiseless exact engine if absent.
        conv: Builds the U-Net's own deepest block, and says how many channels it returns.

    Returns:
        Map from (B, channels, h, w) to (B, c, h, w), and c.
    """
    if options.name == "conv":
        return conv()
    if options.interface is None:
        return nn.Identity() if options.name == "identity" else ZeroFilter(), channels
    cores = _cores(options, engine)
    if options.interface == "experts":
        return _expert_bottleneck(options, cores, channels, size), channels
    if options.interface == "patches":
        return QuFeXBottleneck(cores, options.patch or _PATCH, options.maps or 1), channels * len(cores)
    return _grid_bottleneck(options, cores[0], channels, size), channels


def _cores(options: BottleneckOptions, engine: Engine | None) -> Sequence[nn.Module]:
    contents = options.contents
    if contents:
        several = contents * (options.filters or 1) if len(contents) == 1 else contents
        return [circuit_layer(content, engine, frozen=bool(options.frozen)) for content in several]
    return [_classical_core(options) for _ in range(options.filters or 1)]


def _classical_core(options: BottleneckOptions) -> nn.Module:
    if options.name == "separable":
        return SeparableFilter((options.grid or _GRID)[0])
    if options.name == "pairwise":
        patch, maps = options.patch or _PATCH, options.maps or 1
        return PairwiseFilter(patch[0] * patch[1] * maps)
    return nn.Identity() if options.name == "identity" else ZeroFilter()


def _grid_bottleneck(
    options: BottleneckOptions, core: nn.Module, channels: int, size: tuple[int, int]
) -> GridBottleneck:
    (rows, columns), features = options.grid or _GRID, options.features or _FEATURES
    outputs = rows * columns * (2 if options.name == "separable" else features)
    if options.specs:
        outputs = options.specs[0].num_observables
    return GridBottleneck(
        channels,
        core,
        outputs,
        grid=(rows, columns),
        cell_features=features,
        angle_scale=options.angle_scale or 1.0,
        post_q=options.post_q or "full",
        map_size=size,
    )


def _expert_bottleneck(
    options: BottleneckOptions, cores: Sequence[nn.Module], channels: int, size: tuple[int, int]
) -> ExpertBottleneck:
    off = set(options.off or ())
    experts = {name: core for name, core in zip(options.expert_names, cores, strict=True) if name not in off}
    assert options.gate_angle is not None
    return ExpertBottleneck(
        channels,
        experts,
        options.specs[0].num_observables,
        grid=options.grid or _GRID,
        cell_features=options.features or _FEATURES,
        angle_scale=options.angle_scale or 1.0,
        post_q=options.post_q or "grid",
        map_size=size,
        top_k=options.top_k,
        balance=options.balance or 0.0,
        gate_angle=options.gate_angle,
    )
