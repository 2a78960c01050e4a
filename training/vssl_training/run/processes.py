"""Several processes that train one encoder: who we are, and what must be the same as in one process.

The loss of every process is that of the whole batch: outputs are gathered with their gradients, BatchNorm takes its
statistics over all processes, and `DistributedDataParallel` averages the gradients of the parameters. Each process
makes the same random draws and keeps those of its own images, so that N processes take the steps that one would.
Without `torchrun` there is one process, and every function here leaves its argument as it is.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vssl.errors import UsageError

Value = TypeVar("Value")
Module = TypeVar("Module", bound=nn.Module)


def rank() -> int:
    """Number of this process; 0 writes the run."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def joined() -> Iterator[torch.device]:
    """Join the processes that `torchrun` started, if it did, and leave them at the end; yields this one's device."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if "WORLD_SIZE" not in os.environ:
        yield device
        return
    # Beside NCCL gloo, for what lies on the CPU: processes ask each other things without waiting for their GPUs.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def process_slice(batch: int) -> slice:
    """The part of a batch that this process works on.

    Raises:
        UsageError: the batch can't be shared equally.
    """
    if batch % size():
        raise UsageError(f"a batch of {batch} images can't be shared equally by {size()} processes")
    each = batch // size()
    return slice(rank() * each, (rank() + 1) * each)


def gather(values: Tensor, views: int) -> Tensor:
    """Rows of all processes, with their gradients: [views · n, …] → [views · N, …], view by view as the batch lies."""
    if size() == 1:
        return values
    from torch.distributed.nn.functional import all_reduce

    own = values.view(views, -1, *values.shape[1:])
    places = own.new_zeros(views, size(), *own.shape[1:])
    places[:, rank()] = own
    gathered: Tensor = all_reduce(places)  # type: ignore[no-untyped-call]
    return gathered.flatten(0, 2)


def broadcast(value: Value) -> Value:
    """What the first process has, in all of them; any object that can be pickled."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def any_process(flags: list[bool]) -> list[bool]:
    """Which of the flags any process has set. On the CPU: no GPU is waited for."""
    if size() == 1:
        return flags
    said = torch.tensor(flags, dtype=torch.float32)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return [bool(each) for each in said.tolist()]


class SharedBatchNorm(nn.BatchNorm1d):
    """BatchNorm over the batches of all processes, on any device; torch's own `SyncBatchNorm` is for GPUs alone."""

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """[n, C, …] → the same, standardised by mean and variance of all processes' values of a channel."""
        if not self.training:
            return super().forward(input)
        from torch.distributed.nn.functional import all_reduce

        others = [i for i in range(input.ndim) if i != 1]
        shape = [1, -1] + [1] * (input.ndim - 2)
        mean = all_reduce(input.mean(others)) / size()  # type: ignore[no-untyped-call]
        centred = input - mean.view(shape)
        variance = all_reduce(centred.square().mean(others)) / size()  # type: ignore[no-untyped-call]
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            count = size() * input.numel() / input.shape[1]
            momentum = 0.0 if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * count / (count - 1), momentum)
                self.num_batches_tracked += 1
        scale: Tensor = self.weight * (variance + self.eps).rsqrt()
        shifted: Tensor = centred * scale.view(shape) + self.bias.view(shape)
        return shifted


def shared_norms(module: Module, device: torch.device) -> Module:
    """The module with its BatchNorms taking their statistics over all processes; the same parameters and buffers.

    Raises:
        UsageError: a BatchNorm that has no such form on a CPU.
    """
    if size() == 1:
        return module
    if device.type == "cuda":
        from timm.layers.norm_act import convert_sync_batchnorm

        return convert_sync_batchnorm(module)  # type: ignore[no-any-return, no-untyped-call]
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and type(child) in (nn.BatchNorm1d, nn.BatchNorm2d):
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared.load_state_dict(child.state_dict())
            setattr(module, name, shared.train(child.training))
        elif isinstance(child, nn.modules.batchnorm._BatchNorm) and not isinstance(child, SharedBatchNorm):
            raise UsageError(f"{type(child).__name__}: processes on a CPU can't share it; take another backbone")
        else:
            shared_norms(child, device)
    return module


def synchronised(module: nn.Module) -> nn.Module:
    """The module as one whose gradients are averaged over all processes; parameters stay those of `module`."""
    if size() == 1:
        return module
    return nn.parallel.DistributedDataParallel(module, broadcast_buffers=False)
