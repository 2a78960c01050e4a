"""Low-rank changes to a frozen backbone's matrices (LoRA, Hu et al. 2021, arXiv 2106.09685), by peft."""

import copy
from typing import Any, TypeVar, cast

import torch
from torch import nn

from vssl.errors import UsageError
from vssl_training.encoder.features import Backbone

Module = TypeVar("Module", bound=nn.Module)


def add_adapters(backbone: Backbone, rank: int, seed: int) -> None:
    """Freeze a backbone and add such a change to each of its linear layers and ungrouped convolutions; at first none
    changes anything.

    Raises:
        UsageError: peft is not installed, or the backbone has no such layer.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise UsageError(f"adapt.train=lora:{rank} needs {error.name}: pip install 'vssl[hf]'") from error
    # Attention of torch's own reads the weights of its layers and never calls them.
    attention = (module for module in backbone.modules() if isinstance(module, nn.MultiheadAttention))
    unseen = {child for module in attention for child in module.modules()}
    wanted = [
        name
        for name, module in backbone.named_modules()
        if module not in unseen
        and (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1))
    ]
    if not wanted:
        raise UsageError(f"adapt.train=lora:{rank}: the backbone has no linear layer and no plain convolution")
    torch.manual_seed(seed)
    backbone.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=wanted), backbone)


def merged(module: Module) -> Module:
    """A copy in which the changes are part of the matrices, under the names that these have without them; the module
    itself where it has none.
    """
    if not any(map(_changed, module.modules())):
        return module
    plain: Any = copy.deepcopy(module)
    for name, inner in list(plain.named_modules()):
        if _changed(inner):
            inner.merge()
            plain.set_submodule(name, inner.get_base_layer())
    return cast(Module, plain.requires_grad_(True))


def _changed(module: nn.Module) -> bool:
    # By its method, not its class: importing peft takes seconds, and most networks have no such layer.
    return hasattr(module, "get_base_layer")
