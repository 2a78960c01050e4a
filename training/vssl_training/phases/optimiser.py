"""Optimisers by name, and one step of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from vssl_training.phases.muon import Muon
from vssl_training.recipe.sections import OptimiserSettings


@dataclass(frozen=True)
class Pace:
    """How a parameter learns: at `rate` times the optimiser's; `late`, once the heads have learned, or not; and, of
    Muon, by steps that are made `orthogonal`, or not.
    """

    rate: float = 1.0
    late: bool = False
    orthogonal: bool = False


def groups(module: nn.Module, weight_decay: float, paces: Mapping[str, Pace] | None = None) -> list[dict[str, object]]:
    """Parameters that decay, and those that do not: biases and norms, which have one dimension, and what a network of
    timm names itself (`no_weight_decay`), such as a ViT's class token and table of positions. Frozen ones are in none.

    With `paces`, by the names of all that learn, each of them has its groups; `set_rates` reads them.
    """
    exempt = {
        f"{prefix}.{name}" if prefix else name
        for prefix, part in module.named_modules()
        if callable(named := getattr(part, "no_weight_decay", None))
        for name in named()
    }
    parameters = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    decays = {name: p.ndim > 1 and name not in exempt for name, p in parameters}
    return [
        {
            "params": [
                p for name, p in parameters if decays[name] is decayed and (paces is None or paces[name] == pace)
            ],
            "weight_decay": weight_decay if decayed else 0.0,
            "always_adapt": decayed,  # of LARS: it adapts the rates of these alone
            **asdict(pace),
        }
        for pace in ([Pace()] if paces is None else dict.fromkeys(paces.values()))
        for decayed in (True, False)
    ]


def orthogonal_paces(module: nn.Module, settings: OptimiserSettings) -> dict[str, Pace]:
    """Muon's paces of a `Student`: the backbone's convolutions and matrices take its steps, at its rate. Heads,
    depthwise convolutions, and tokens and tables of one row, whose step can't be orthogonal, take AdamW's.
    """
    own = Pace(settings.muon_rate / settings.learning_rate, orthogonal=True)
    return {
        name: own
        if name.startswith("encoder.backbone.") and parameter.ndim > 1 and min(parameter.shape[:2]) > 1
        else Pace()
        for name, parameter in module.named_parameters()
    }


def adamw(
    module: nn.Module, learning_rate: float, weight_decay: float, betas: tuple[float, float], fused: bool
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101)."""
    return torch.optim.AdamW(groups(module, weight_decay), lr=learning_rate, betas=betas, fused=fused or None)


def build_optimiser(
    module: nn.Module, settings: OptimiserSettings, fused: bool = False, paces: Mapping[str, Pace] | None = None
) -> torch.optim.Optimizer:
    """The optimiser that the settings name; `fused` is torch's single-kernel form, which LARS does not have."""
    rate, momentum = settings.learning_rate, settings.momentum
    if settings.name == "muon":
        paces = orthogonal_paces(module, settings)
    each = groups(module, settings.weight_decay, paces)
    if settings.name == "adamw":
        return torch.optim.AdamW(each, lr=rate, betas=settings.betas, fused=fused or None)
    if settings.name == "muon":
        return Muon(each, lr=rate, betas=settings.betas, fused=fused or None)
    if settings.name == "sgd":
        return torch.optim.SGD(each, lr=rate, momentum=momentum, fused=fused or None)
    from timm.optim.lars import Lars

    # You et al. 2017, arXiv 1708.03888.
    lars: torch.optim.Optimizer = Lars(each, lr=rate, momentum=momentum, trust_coeff=settings.eta, trust_clip=True)
    return lars


def set_rates(optimiser: torch.optim.Optimizer, learning_rate: float, late: float) -> None:
    """The rates of the next step: of what learns from the start, and of what learns late."""
    for group in optimiser.param_groups:
        group["lr"] = (late if group.get("late") else learning_rate) * group.get("rate", 1.0)


def optimiser_step(optimiser: torch.optim.Optimizer, loss: Tensor, learning_rate: float) -> None:
    """One step of the optimiser down the gradient of a scalar loss."""
    set_rates(optimiser, learning_rate, learning_rate)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
