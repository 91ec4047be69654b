"""Batch norm over the batches of all processes, on CPU too.

`torch.nn.SyncBatchNorm` refuses tensors of the CPU (torch 2.13 still does), so that HQ-UNet on two processes
would be normalised by half batches. Here the sums of a layer are added up over the ranks. On CUDA torch's own
layer is used, which does the same in fewer messages.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qhybrid.training.ranks import place, summed


class SummedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose mean and variance are those of the samples (B, C, ...) of all ranks.

    With n values a channel over all ranks, mean = sum x / n and var = sum (x - mean)^2 / n; the running
    variance has n - 1 in the denominator, as in torch. Weights have the names of `nn.BatchNorm2d`.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"Input must have shape (B, C, ...), but has {tuple(input.shape)}.")

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input; in evaluation mode as `nn.BatchNorm2d` does."""
        if not self.training or place().world == 1:
            return super().forward(input)
        self._check_input_dim(input)
        over = [0, *range(2, input.ndim)]
        shape = (1, -1, *(1 for _ in range(2, input.ndim)))
        values = input.to(torch.promote_types(input.dtype, torch.float32))
        count = summed(values.new_tensor(float(input.numel() // input.shape[1])))
        mean = summed(values.sum(over)) / count
        centred = values - mean.view(shape)
        variance = summed(centred.square().sum(over)) / count
        self._remember(mean.detach(), variance.detach(), float(count))
        found = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            found = found * self.weight.view(shape) + self.bias.view(shape)
        return found.to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), share)


def with_synchronised_norm(model: nn.Module, *, gpu: bool) -> nn.Module:
    """Have the batch norms of a model see the batches of all ranks; nothing for a single process.

    Args:
        model: The network, before its optimiser is made.
        gpu: Whether it is trained on CUDA.
    """
    if place().world == 1:
        return model
    if gpu:
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted
    return _converted(model)


def _converted(part: nn.Module) -> nn.Module:
    for name, child in part.named_children():
        setattr(part, name, _converted(child))
    if not isinstance(part, _BatchNorm) or isinstance(part, SummedBatchNorm):
        return part
    made = SummedBatchNorm(part.num_features, part.eps, part.momentum, part.affine, part.track_running_stats)
    if part.affine:
        made.weight, made.bias = part.weight, part.bias
    made.running_mean, made.running_var = part.running_mean, part.running_var
    made.num_batches_tracked = part.num_batches_tracked
    return made.train(part.training)
