"""Muon for convolutions and matrices, beside AdamW for all else."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOMENTUM, STEPS = 0.95, 5


class Muon(torch.optim.AdamW):
    """AdamW in which the step of a group that is `orthogonal` is its momentum, made orthogonal.

    Jordan et al. 2024: Nesterov momentum of 0.95, of which every direction is made as long as the others. A convolution
    [C, C', k, k] is a matrix of C rows. The step is scaled by 0.2 √(the longer side), so that its numbers are about as
    large as AdamW's and both learn at one rate (Liu et al. 2025, arXiv 2502.16982, equation 4). The classes of torch
    and timm compute in bfloat16 everywhere, which takes twenty times as long on a CPU without AVX-512.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401 — torch's own type
        """One step down the gradients. It gives up those of orthogonal groups, which AdamW then passes over."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for weight in group["params"] if group["orthogonal"] else ():
                if weight.grad is not None:
                    self._step_of(weight, weight.grad, group["lr"], group["weight_decay"])
                    weight.grad = None
        super().step()
        return loss

    def _step_of(self, weight: Tensor, gradient: Tensor, rate: float, decay: float) -> None:
        state = self.state[weight]
        if not state:
            # AdamW looks for the number of steps in every state that it reads from a checkpoint.
            state.update(momentum=torch.zeros_like(weight), step=torch.zeros(()))
        momentum = state["momentum"]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        direction = gradient.lerp(momentum, MOMENTUM).flatten(1)
        scale = 0.2 * max(direction.shape) ** 0.5
        weight.mul_(1 - rate * decay).add_(orthogonal(direction).reshape(weight.shape), alpha=-rate * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """A matrix [R, C] with its own singular vectors, all its singular values moved into about 0.7 … 1.2.

    Five steps of the quintic iteration of Jordan et al. 2024; a direction that is a thousand times shorter than the
    longest comes less far. In bfloat16 on a GPU, in the matrix's own type elsewhere.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    found: Tensor = wide.bfloat16() if wide.is_cuda else wide
    found = found / (found.norm() + 1e-7)
    for _ in range(STEPS):
        square = found @ found.T
        found = 3.4445 * found + (-4.775 * square + 2.0315 * square @ square) @ found
    return (found if wide is matrix else found.T).to(matrix.dtype)
