"""Small models and samples for plans."""

from __future__ import annotations

import torch

from qhybrid.hardware.model.workload import Samples, Workload
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.models import build_model

FAST = {
    "resend_after_s": 0.3,
    "poll_s": 0.02,
    "poll_max_s": 0.05,
    "read_timeout_s": 5.0,
    "send_timeout_s": 5.0,
    "retries": 4,
    "deadline_s": 30.0,
}
"""Patience with the local service."""


def map_workload(count=4) -> Workload:
    """A segmentation model with one layer on 4 qubits."""
    torch.manual_seed(0)
    content = {"name": "hq_unet", "in_channels": 2, "num_classes": 3, "patch_size": 16, "grid": 2}
    model = build_model({**content, "widths": [4, 4, 8, 8, 8]})
    random = torch.Generator().manual_seed(1)
    images = torch.randn(count, 2, 16, 16, generator=random)
    with torch.no_grad():  # statistics of the norms: without them all samples look alike
        for _ in range(20):
            model.train()(torch.randn(16, 2, 16, 16, generator=random))
    model.eval()
    targets = torch.randint(0, 3, (count, 16, 16), generator=random)
    return Workload(model, Samples(images, targets, tuple(f"s{i}" for i in range(count))))


def class_workload(count=6) -> Workload:
    """A classifier with a fixed quantum filter and a quantum classifier."""
    torch.manual_seed(0)
    model = build_model({"name": "qcq_cnn", "in_channels": 1, "num_classes": 2, "image_size": [8, 8]}).eval()
    random = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, 8, 8, generator=random)
    targets = torch.randint(0, 2, (count,), generator=random)
    return Workload(model, Samples(images, targets, tuple(f"s{i}" for i in range(count)), ("no", "yes")))


def settings_of(**changes) -> HardwareSettings:
    """Settings for the local service on five qubits."""
    content = {"backend": "ibm_manila", "shots": 256, "copies": 1, "layouts": 1, "mode": "job"}
    patience = {**FAST, **changes.pop("patience", {})}
    return HardwareSettings(**{**content, **changes}, patience=patience)


def quick(**changes) -> HardwareSettings:
    """Settings that lose no time."""
    content = {"backend": "fake_manila", "shots": 400, "layouts": 1, "copies": 1}
    patience = {"poll_s": 0.02, "poll_max_s": 0.05, "resend_after_s": 0.2}
    return HardwareSettings(**{**content, "patience": patience, **changes})
