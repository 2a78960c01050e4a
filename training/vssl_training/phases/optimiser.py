"""Optimisers by name, and one step of them."""

import torch
from torch import Tensor, nn

from vssl_training.recipe.sections import OptimiserSettings


def groups(module: nn.Module, weight_decay: float) -> tuple[dict[str, object], dict[str, object]]:
    """Parameters that decay, and those that do not: biases and norms, which have one dimension, and what a network of
    timm names itself (`no_weight_decay`), such as a ViT's class token and table of positions.
    """
    exempt = {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        if callable(named := getattr(part, "no_weight_decay", None))
        for name in named()
    }
    parameters = list(module.named_parameters())
    return (
        {"params": [p for name, p in parameters if p.ndim > 1 and name not in exempt], "weight_decay": weight_decay},
        {"params": [p for name, p in parameters if p.ndim <= 1 or name in exempt], "weight_decay": 0.0},
    )


def adamw(
    module: nn.Module, learning_rate: float, weight_decay: float, betas: tuple[float, float], fused: bool
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101)."""
    return torch.optim.AdamW(groups(module, weight_decay), lr=learning_rate, betas=betas, fused=fused or None)


def build_optimiser(module: nn.Module, settings: OptimiserSettings, fused: bool = False) -> torch.optim.Optimizer:
    """The optimiser that the settings name; `fused` is torch's single-kernel form, which LARS does not have."""
    rate, momentum = settings.learning_rate, settings.momentum
    if settings.name == "adamw":
        return adamw(module, rate, settings.weight_decay, settings.betas, fused)
    decayed, exempt = groups(module, settings.weight_decay)
    if settings.name == "sgd":
        return torch.optim.SGD([decayed, exempt], lr=rate, momentum=momentum, fused=fused or None)
    from timm.optim.lars import Lars

    # You et al. 2017, arXiv 1708.03888. Only the group that decays has its rates adapted.
    adapted = {**decayed, "always_adapt": True}
    lars: torch.optim.Optimizer = Lars(
        [adapted, exempt], lr=rate, momentum=momentum, trust_coeff=settings.eta, trust_clip=True
    )
    return lars


def optimiser_step(optimiser: torch.optim.Optimizer, loss: Tensor, learning_rate: float) -> None:
    """One step of the optimiser down the gradient of a scalar loss."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
