"""The models of this package, each a choice of parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qhybrid.models.circuit_part import near_square
from qhybrid.models.comparators import (
    DIResOptions,
    PlusPlusOptions,
    PyramidOptions,
    UNetPlusPlus,
    build_di_res_unet,
    build_pyramid_unet,
)
from qhybrid.models.hq_unet import HQUNetOptions, TwinOptions
from qhybrid.models.hqf_net import HQFNetOptions
from qhybrid.models.hybrid_cnn import HybridCNNOptions, build_classifier
from qhybrid.models.qcnn import QCNN, QCNNOptions
from qhybrid.models.qcq_cnn import (
    CNNOptions,
    LatentOptions,
    MLPOptions,
    QCCNNOptions,
    QCQCNNOptions,
    QuanvoMLPOptions,
)
from qhybrid.models.qu_net import QuNetOptions, QuNetTwinOptions
from qhybrid.models.qu_unet import QuUNetOptions, build_qu_unet
from qhybrid.models.registry import register_model
from qhybrid.models.unet import GuidedByConcatenation, UNetOptions, build_unet
from qhybrid.models.workspace_circuits import CircuitKeys


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def _tall(count: Any, _keys: Mapping[str, Any]) -> tuple[int, int]:
    """Return rows and columns of as many cells, as square as possible, rows >= columns."""
    rows, columns = near_square(_whole(count))
    return columns, rows


def _whole(count: Any) -> int:
    return count if isinstance(count, int) and count > 0 else 1


def _letter_of(filter_number: int) -> Any:
    """Return the converter of one filter's letter to the two letters of `qu_net`."""

    def letters(observable: Any, keys: Mapping[str, Any]) -> str:
        both = str(keys.get("observables", QuNetOptions.model_fields["observables"].default))
        return both[:filter_number] + str(observable) + both[filter_number + 1 :]

    return letters


QCNN_OF_GRID = CircuitKeys("hq_unet_qcnn", _same("grid", "pair_order", "encoding", "readout", "reps"))
FILTER = CircuitKeys(
    "qcq_filter",
    {
        "num_qubits": "filter_patch",
        "layers": "filter_layers",
        "filter": "filter",
        "angle_range": "filter_angle_range",
        "seed": "filter_seed",
        "structure_seed": "filter_structure_seed",
    },
    convert={"num_qubits": lambda count, _keys: near_square(_whole(count))},
)
CLASSIFIER = CircuitKeys("qcq_classifier", _same("reps", "feature_map_reps"), fixed={"num_qubits": 2})
CELLS = CircuitKeys(
    "qcnn", {"num_qubits": "grid", **_same("convolution", "shared")}, convert={"num_qubits": _tall}
)
QUFEX = tuple(
    CircuitKeys(
        f"qufex_filter{number + 1}",
        {"observable": "observables"},
        convert={"observable": _letter_of(number)},
        fixed={"num_qubits": 8},
        decided_by=("patch", "maps", "variant"),
    )
    for number in range(2)
)

register_model("cnn", CNNOptions, build_classifier, "Convolutions and a dense layer", "classification")
register_model(
    "di_res_unet",
    DIResOptions,
    build_di_res_unet,
    "U-Net of inception blocks with residuals and dense pyramid pooling (our reconstruction)",
    "segmentation",
)
register_model(
    "hq_unet",
    HQUNetOptions,
    build_unet,
    "U-Net with a 16-qubit QCNN at the bottleneck",
    "segmentation",
    circuits=[QCNN_OF_GRID],
)
register_model(
    "hq_unet_twin",
    TwinOptions,
    build_unet,
    "HQ-UNet with a classical core in place of the circuit",
    "segmentation",
)
register_model(
    "hqf_net",
    HQFNetOptions,
    build_unet,
    "U-Net with quantum skip connections and quantum experts (HQF-Net, our reconstruction)",
    "segmentation",
)
register_model(
    "hybrid_cnn",
    HybridCNNOptions,
    build_classifier,
    "Any fixed quantum filter or none, convolutions, any circuit or a dense layer",
    "classification",
)
register_model("mlp", MLPOptions, build_classifier, "Dense layers on the pixels", "classification")
register_model(
    "qccnn",
    QCCNNOptions,
    build_classifier,
    "Fixed quantum filter, convolutions, dense layer",
    "classification",
    circuits=[FILTER],
)
register_model(
    "qcnn",
    QCNNOptions,
    QCNN,
    "Quantum convolutional network on averaged image cells",
    "classification",
    circuits=[CELLS],
)
register_model(
    "qcq_cnn",
    QCQCNNOptions,
    build_classifier,
    "Fixed quantum filter, convolutions, 2-qubit quantum classifier",
    "classification",
    circuits=[FILTER, CLASSIFIER],
)
register_model(
    "qcq_cnn_twin",
    LatentOptions,
    build_classifier,
    "QCQ-CNN with a classical classifier of as many weights",
    "classification",
    circuits=[FILTER],
)
register_model(
    "qu_net",
    QuNetOptions,
    build_qu_unet,
    "Small U-Net with QuFeX circuits at the bottleneck",
    "segmentation",
    circuits=QUFEX,
)
register_model(
    "qu_net_twin",
    QuNetTwinOptions,
    build_qu_unet,
    "Qu-Net with classical filters in place of its circuits",
    "segmentation",
)
register_model(
    "qu_unet",
    QuUNetOptions,
    build_qu_unet,
    "Small U-Net that Qu-Net is compared with, around any bottleneck",
    "segmentation",
)
register_model(
    "quanvo_mlp",
    QuanvoMLPOptions,
    build_classifier,
    "Fixed quantum filter and dense layers",
    "classification",
    circuits=[FILTER],
)
register_model(
    "unet",
    UNetOptions,
    build_unet,
    "U-Net with depthwise-separable convolutions, around any bottleneck",
    "segmentation",
)
register_model(
    "unet_plus_plus", PlusPlusOptions, UNetPlusPlus, "UNet++ of MONAI (extra `unetpp`)", "segmentation"
)
register_model(
    "unet_spp",
    PyramidOptions,
    build_pyramid_unet,
    "U-Net with spatial pyramid pooling as its deepest block",
    "segmentation",
)
register_model(
    "unet_vit_concat",
    GuidedByConcatenation,
    build_unet,
    "U-Net with token maps of a frozen ViT by plain concatenation",
    "segmentation",
)
