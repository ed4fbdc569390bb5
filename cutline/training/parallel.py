"""A model spread over processes: copied to each of them (DDP), or cut in pieces (FSDP2)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from cutline.distributed import world_size
from cutline.model import CaptionModel


def spread(model: CaptionModel, shard: bool) -> nn.Module:
    """What to call in place of `model`, so that the processes average their gradients; in a single process `model` itself.

    shard: cut every block's weights, gradients and moments into as many pieces as there are processes, in place (Zhao et al., 2023).
    """
    if world_size() == 1:
        return model
    device = next(model.parameters()).device
    if not shard:
        return DistributedDataParallel(model, [device] if device.type == "cuda" else None, gradient_as_bucket_view=True)
    mesh = init_device_mesh(device.type, (world_size(),))
    for block in (*model.vision.blocks, *model.text.layers):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


@contextmanager
def exchanging(model: nn.Module, now: bool) -> Iterator[None]:
    """Within it, a backward pass averages the gradients of the processes only if `now`: once per step, not once per batch."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)
        yield
    elif isinstance(model, DistributedDataParallel) and not now:
        with model.no_sync():
            yield
    else:
        yield


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which this process may hold a piece. Every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def piece(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process holds of a whole tensor, cut as `like` is."""
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements) if isinstance(like, DTensor) else tensor


def whole_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors of all `weights`. Every process must ask."""
    return {name: whole(tensor.detach()) for name, tensor in weights.items()}


def local(tensor: Tensor) -> Tensor:
    """The piece that this process holds, as a plain tensor that shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def put(weights: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy whole `weights` into tensors of the same names, or into this process's pieces of them. Raises KeyError, RuntimeError."""
    if weights.keys() != into.keys():
        raise KeyError(f"other weights: {', '.join(sorted(weights.keys() ^ into.keys())[:3])}")
    for name, tensor in into.items():
        if weights[name].shape != tensor.shape:
            raise RuntimeError(f"{name} is {tuple(weights[name].shape)}, not {tuple(tensor.shape)}")
        tensor.copy_(piece(weights[name], tensor))
