"""A model wrap_distributed over processes: copied to each of them (DDP), or cut in pieces (FSDP2)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cutline.distributed import is_main_process, world_size
from cutline.model import CaptionModel

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor


def wrap_distributed(model: CaptionModel, shard: bool) -> nn.Module:
    """What to call in place of `model`, so that the processes average their gradients; in a single process `model` itself.

    shard: cut every block's weights, gradients and moments into as many pieces as there are processes, in place (Zhao et al., 2023).
    """
    if world_size() == 1:
        return model
    device = next(model.parameters()).device
    if not shard:
        return DistributedDataParallel(
            model, [device] if device.type == "cuda" else None, gradient_as_bucket_view=True
        )
    from torch.distributed.device_mesh import init_device_mesh  # a second to import
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world_size(),))
    for block in (*model.vision.blocks, *model.text.layers):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


@contextmanager
def gradient_sync(model: nn.Module, now: bool) -> Iterator[None]:
    """Within it, a backward pass averages the gradients of the processes only if `now`: once per step, not once per batch."""
    if hasattr(model, "set_requires_gradient_sync"):  # FSDP2's
        cast("FSDPModule", model).set_requires_gradient_sync(now)
        yield
    elif isinstance(model, DistributedDataParallel) and not now:
        with model.no_sync():
            yield
    else:
        yield


def is_sharded(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether this process holds only a piece of the tensor."""
    return hasattr(tensor, "full_tensor")  # a DTensor, whose module takes a second to import


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which this process may hold a piece. Every process must ask."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """The piece that this process holds, as a plain tensor that shares its memory."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def piece(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process holds of a whole tensor, cut as `like` is."""
    if not is_sharded(like):
        return tensor.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)


def full_weights(weights: Mapping[str, Tensor], everywhere: bool = False) -> dict[str, Tensor]:
    """Whole tensors of all `weights`, those cut in pieces on the CPU; every process must ask, but only the first gets them, or all.

    One after another: where a model is cut in pieces, no processor has room for all of it.
    """
    kept = {}
    for name, tensor in weights.items():
        full = whole(tensor.detach())
        if everywhere or is_main_process():
            kept[name] = full.cpu() if is_sharded(tensor) else full
    return kept


@torch.no_grad()
def put(weights: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy whole `weights` into tensors of the same names, or into this process's pieces of them. Raises KeyError, RuntimeError."""
    if weights.keys() != into.keys():
        raise KeyError(f"other weights: {', '.join(sorted(weights.keys() ^ into.keys())[:3])}")
    for name, tensor in into.items():
        if weights[name].shape != tensor.shape:
            raise RuntimeError(f"{name} is {tuple(weights[name].shape)}, not {tuple(tensor.shape)}")
        tensor.copy_(piece(weights[name], tensor))
