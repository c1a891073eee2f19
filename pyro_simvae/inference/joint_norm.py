"""Batch norm over the batch of all processes, so that a network does not depend on how many share it."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_simvae.inference.gather import rows_of_all, total_of_all, world_size


def join_batch_norm(module: nn.Module) -> None:
    """Puts joint batch norm in the place of each batch norm inside a module; weights and statistics stay the same."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, (JointBatchNorm, nn.SyncBatchNorm)):
                setattr(parent, name, _joint(child))


class JointBatchNorm(_BatchNorm):
    """Batch norm whose mean and variance in training are those of the joint batch; every process has as many rows.

    It is `torch.nn.SyncBatchNorm`, but for processors too, and by operators that a traced graph can hold.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        return

    def forward(self, x: Tensor) -> Tensor:
        """x: `(n, C, ...)`. Returns the same shape."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        with torch.no_grad():
            mean, variance = _statistics(x)
            self._follow(mean, variance, world_size() * x.numel() // x.shape[1])
        return _Normalize.apply(x, mean, variance, self.weight, self.bias, self.eps)

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Moves the running statistics, the variance without bias."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), weight)
        self.running_var.lerp_(variance.to(self.running_var) * count / (count - 1), weight)


class _Normalize(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) × weight + bias, with the statistics' gradients to the rows of all processes.

    Gradients of the processes' losses add up in the rows, as in `gather`, and those of the weights afterwards: with
    x̂ the normalized x,  ∂x = weight / σ × (∂y - E[∂y] - x̂ E[∂y x̂]),  E over the joint batch.

    Source: Ioffe and Szegedy 2015 (arXiv:1502.03167), section 3.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, mean, variance, weight)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, mean, variance, weight = ctx.saved_tensors
        # For given statistics torch has the gradients: of x, and the sums ∂y x̂ and ∂y over rows.
        ones = torch.ones_like(mean) if weight is None else weight
        inverse = (variance + ctx.eps).rsqrt()
        wanted = [True, True, True]
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, ones, mean, variance, mean, inverse, False, ctx.eps, wanted
        )
        sums = total_of_all(torch.stack([of_weight, of_bias]))
        along, constant = sums * (ones * inverse / (world_size() * x.numel() // x.shape[1]))
        slope = along * inverse
        shape = (1, -1, *[1] * (x.dim() - 2))
        of_x.addcmul_(x, slope.view(shape).to(x), value=-1).sub_((constant - slope * mean).view(shape))
        return of_x, None, None, None if weight is None else of_weight, None if weight is None else of_bias, None


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel over the joint batch, `(C,)`, from those of each process."""
    rows = x.to(torch.promote_types(x.dtype, torch.float32))
    own = torch.stack(torch.batch_norm_update_stats(rows, None, None, 0.0))  # several times as fast as torch.var_mean
    of_all = rows_of_all(own)
    means, variances = of_all[0::2], of_all[1::2]
    return means.mean(0), variances.mean(0) + means.var(0, correction=0)


def _joint(norm: _BatchNorm) -> JointBatchNorm:
    joint = JointBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    joint._parameters, joint._buffers = norm._parameters, norm._buffers
    return joint.train(norm.training)
