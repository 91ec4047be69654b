"""Is there a circuit that does better than everything in its place? An open search, all cases printed.

    python benchmarks/circuit_search.py                     # explores: 10 seeds, the recipe's own settings
    python benchmarks/circuit_search.py --only even_odd_chain --tune 8 --seeds 100-109
    python benchmarks/circuit_search.py --list

Each case is one `qhybrid ablate`: the model as it is and every arm that is possible, with equal seeds and
budgets. A case is won where the circuit is different from every arm, after Holm's correction for the arms,
and better. Of many cases one is won by chance: what is won here is tried again with other seeds and `--tune`,
and only that counts. Finished runs are kept (--output), so that the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PLUGINS = (HERE / "even_odd_plugin.py", HERE.parent / "docs" / "examples" / "ring" / "ring_plugin.py")
os.environ["QHYBRID_PLUGINS"] = ",".join(map(str, PLUGINS))

import qhybrid  # noqa: E402
from qhybrid.cli.repeats import parse_numbers  # noqa: E402

TRAINING: dict[str, Any] = {
    "epochs": 60, "batch_size": 16, "learning_rate": 1e-2, "schedule": "constant", "warmup": 0,
    "weight_decay": 0, "early_stopping": 20, "channels_last": False, "threads": 1,
}  # fmt: skip


def classifier(circuit: Any, channels: tuple[int, ...] = (), **head: Any) -> dict[str, Any]:
    """Return a classifier that ends in a circuit, behind convolutions or a dense layer of the pixels."""
    return {"name": "hybrid_cnn", "channels": list(channels), "head": {"circuit": circuit, **head}}


def ring(qubits: int, layers: int) -> dict[str, Any]:
    """Return the re-uploading ring of docs/examples."""
    return {"name": "ring", "arguments": {"num_qubits": qubits, "layers": layers}}


def mnist(name: str, classes: tuple[int, int], train: int) -> dict[str, Any]:
    """Return two classes of a data set in idx files, of few training images."""
    options = {"classes": list(classes), "train": train, "validation": 200, "test": 1000}
    return {"dataset": name, "root": name, "options": options}


def digits(classes: tuple[int, int], test: float) -> dict[str, Any]:
    """Return two of scikit-learn's digits, most of them kept for testing."""
    return {"dataset": "digits", "options": {"classes": list(classes), "validation": 0.2, "test": test}}


MRI = {
    "dataset": "brain_mri", "root": "brain_mri",
    "options": {"pairing": "malignant", "size": 28, "group_near_duplicates": 0.98},
}  # fmt: skip
EVEN_ODD = {"dataset": "even_odd", "options": {"rows": 2, "columns": 3, "train": 200}}
CHAIN = str(HERE / "parity_chain.yaml")
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "digits_qcq": ("few images, QCQ-CNN's head", digits((3, 5), 0.6), classifier("qcq_classifier")),
    "digits_ring": ("few images, re-uploading ring", digits((3, 5), 0.6), classifier(ring(4, 3))),
    "digits_qcnn": ("few images, QCNN with pooling", digits((3, 8), 0.6), classifier("qcnn")),
    "mnist_50": ("50 images, ring", mnist("mnist", (3, 5), 50), classifier(ring(4, 3), (8, 16))),
    "mnist_200": ("200 images, no convolutions, ring", mnist("mnist", (3, 5), 200), classifier(ring(6, 3))),
    "fashion_200": (
        "200 images of shirts and coats, convolutions, ring",
        mnist("fashion_mnist", (4, 6), 200),
        classifier(ring(4, 3), (8, 16)),
    ),
    "mri_ring": ("glioma or benign, convolutions, ring", MRI, classifier(ring(4, 3), (8, 16))),
    "even_odd_ring": ("even or odd number of cells, ring", EVEN_ODD, classifier(ring(6, 3))),
    "even_odd_chain": ("even or odd number of cells, chain of CX", EVEN_ODD, classifier(CHAIN)),
    "even_odd_50": (
        "the same from 50 images",
        {**EVEN_ODD, "options": {**EVEN_ODD["options"], "train": 50}},
        classifier(CHAIN),
    ),
}  # fmt: skip
"""Name of a case: what it is, data, model."""


def main() -> None:
    """Run the cases and print a row of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", default="0-9")
    parser.add_argument("--tune", type=int, default=0, help="settings that are tried for each arm")
    parser.add_argument("--output", type=Path, default=Path("runs/circuit_search"))
    parser.add_argument("--list", action="store_true", help="print the cases and stop")
    options = parser.parse_args()
    if options.list:
        for name, (said, *_) in CASES.items():
            print(f"{name:<16} {said}")
        return
    seeds = parse_numbers(options.seeds, "--seeds")
    print("| case | as it is | best arm | difference | verdict | better than |")
    print("|---" * 6 + "|", flush=True)
    for name in options.only:
        said, data, model = CASES[name]
        recipe = {"name": name, "description": said, "data": data, "model": model, "training": TRAINING}
        folder = options.output / f"{name}_{options.seeds}_tune{options.tune}"
        found = qhybrid.ablate(recipe, seeds=seeds, trials=options.tune, output=folder)
        print(row(f"{name}: {said}", found), flush=True)


def row(title: str, found: qhybrid.Ablation) -> str:
    """Return what one ablation found."""
    arms = {str(one["arm"]): one for one in found.results.to_dict("records") if one["arm"] != "as_is"}
    (whole,) = found.results[found.results["arm"] == "as_is"].to_dict("records")
    judged = {name: arm for name, arm in arms.items() if name in found.verdicts}
    best = max(judged, key=lambda name: judged[name]["mean"])
    beaten = [
        name
        for name, arm in judged.items()
        if found.verdicts[name].startswith("different") and arm["difference"] < 0
    ]
    cells = (
        title,
        f"{100 * whole['mean']:.2f} +- {100 * whole['std']:.2f}",
        f"{best} {100 * judged[best]['mean']:.2f} +- {100 * judged[best]['std']:.2f}",
        f"{100 * judged[best]['difference']:+.2f}",
        found.verdicts[best],
        f"{len(beaten)} of {len(judged)}",
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
