"""Batch norm over the batch of all processes, so that a network does not depend on how many share it."""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


class JointBatchNorm(_BatchNorm):
    """Batch norm whose mean and variance in training are those of the joint batch, on any device.

    Every process has as many rows. Gradients of the processes' losses add up in the statistics, as in
    `limits.gather`, and are then averaged with those of the weights. On a GPU `torch.nn.SyncBatchNorm` is faster.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        return

    def forward(self, x: Tensor) -> Tensor:
        """x: `(n, C, ...)`. Returns the same shape."""
        if not self.training:
            return super().forward(x)
        dims = [dim for dim in range(x.dim()) if dim != 1]
        shape = [-1 if dim == 1 else 1 for dim in range(x.dim())]
        mean = _JointMean.apply(x.mean(dims))
        centred = x - mean.view(shape)
        variance = _JointMean.apply(centred.square().mean(dims))
        self._follow(mean.detach(), variance.detach(), x.numel() // x.shape[1] * distributed.get_world_size())
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            return centred * (scale * self.weight).view(shape) + self.bias.view(shape)
        return centred * scale.view(shape)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Moves the running statistics, the variance without bias."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), weight)
        self.running_var.lerp_(variance.to(self.running_var) * count / (count - 1), weight)


def join_batch_norm(module: nn.Module, device: torch.device) -> None:
    """Puts joint batch norm in the place of each batch norm inside a module; weights and statistics stay the same."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, (JointBatchNorm, nn.SyncBatchNorm)):
                setattr(parent, name, _joint(child, device))


def _joint(norm: _BatchNorm, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(norm)
    joint = JointBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    joint._parameters, joint._buffers = norm._parameters, norm._buffers
    return joint.train(norm.training)


class _JointMean(torch.autograd.Function):
    """The mean over processes; gradients of their losses add up in it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _mean(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return _mean(gradient)


def _mean(value: Tensor) -> Tensor:
    total = value.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
