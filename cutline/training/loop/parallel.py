"""Training in several processes: replicated weights (DDP) or sharded weights (FSDP2).

With DDP, every process has the whole model, and gradients are averaged in the backward pass. With
FSDP2, each weight is a DTensor: every process holds one shard of it, and of its gradient and
optimizer state; a block's weights are gathered just before they are used, and freed afterwards.

What is saved and loaded never depends on that. `gather_full_weights` gathers the shards, and
`load_weights` cuts full tensors into shards again, so that the same file serves both. Gathering is
a collective operation: every process must call it, for the same tensors in the same order.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cutline.distributed import is_main_process, world_size
from cutline.model import VisionTextModel

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor


def wrap_distributed(model: VisionTextModel, fsdp: bool) -> nn.Module:
    """Prepare a model for training in several processes.

    Args:
        model: The model, already on its device.
        fsdp: Whether to shard the model in place (FSDP2; Zhao et al., 2023), one unit per block,
            instead of replicating it (DDP).

    Returns:
        The module to call instead of `model`, so that gradients are averaged over the processes;
        `model` itself in a single process and with FSDP2.
    """
    if world_size() == 1:
        return model
    device = next(model.parameters()).device
    if not fsdp:
        return DistributedDataParallel(
            model,
            [device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # queues of momentum encoders, equal in all processes
            gradient_as_bucket_view=True,
        )
    # These imports take a second.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world_size(),))
    for block in model.iter_layers():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)  # the weights outside the blocks
    return model


@contextmanager
def gradient_sync(model: nn.Module, enabled: bool) -> Iterator[None]:
    """Average gradients over the processes in the backward pass only if `enabled`.

    With gradient accumulation only the last backward pass of a step needs it.
    """
    if hasattr(model, "set_requires_gradient_sync"):  # FSDP2; its class takes a second to import
        cast("FSDPModule", model).set_requires_gradient_sync(enabled)
        yield
    elif isinstance(model, DistributedDataParallel) and not enabled:
        with model.no_sync():
            yield
    else:
        yield


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Return whether this process holds only a shard of `tensor`."""
    return hasattr(tensor, "full_tensor")  # a DTensor, whose module takes a second to import


def full_tensor(tensor: Tensor) -> Tensor:
    """Return all of `tensor`, gathered if it is sharded; every process must call this."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def to_local(tensor: Tensor) -> Tensor:
    """Return what this process holds of `tensor`, as a plain tensor that shares its memory."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def shard_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this process's shard of a full tensor, with the device and placements of `like`."""
    if not is_sharded(like):
        return tensor.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def gather_full_weights(
    weights: Mapping[str, Tensor], rank0_only: bool = True
) -> dict[str, Tensor]:
    """Gather all of `weights`; every process must call this.

    Sharded weights are gathered one at a time and moved to the CPU, because a device may not have
    enough memory for all of them. Other weights are returned as they are, without a copy.

    Args:
        weights: Full or sharded tensors by name.
        rank0_only: Whether only the main process gets the result; the others get an empty
            dictionary.

    Returns:
        Full tensors by name.
    """
    gathered = {}
    for name, tensor in weights.items():
        full = full_tensor(tensor.detach())
        if not rank0_only or is_main_process():
            gathered[name] = full.cpu() if is_sharded(tensor) else full
    return gathered


@torch.no_grad()
def load_weights(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Copy full tensors into full or sharded tensors of the same names.

    Raises:
        KeyError: The names differ.
        RuntimeError: The shapes differ.
    """
    if source.keys() != target.keys():
        names = ", ".join(sorted(source.keys() ^ target.keys())[:3])
        raise KeyError(f"weights missing or unexpected: {names}")
    for name, tensor in target.items():
        if source[name].shape != tensor.shape:
            raise RuntimeError(f"{name} is {tuple(source[name].shape)}, not {tuple(tensor.shape)}")
        tensor.copy_(shard_like(source[name], tensor))
