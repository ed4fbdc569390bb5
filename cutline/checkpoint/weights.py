"""A captioner at rest, and the way of its weights from other people's names to ours and back."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cutline.checkpoint.names import Layout, Names
from cutline.config import CaptionConfig
from cutline.errors import CheckpointError
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class Checkpoint:
    """Everything a captioner is: sizes and settings, weights, vocabulary."""

    config: CaptionConfig
    weights: dict[str, Tensor]
    """by the names of `CaptionModel.state_dict`, in fp32"""
    tokenizer: Tokenizer
    left: tuple[str, ...] = ()
    """names of further weights in the file, which `load_checkpoint(..., partial=True)` leaves there"""


def empty_model(config: CaptionConfig) -> CaptionModel:
    """The network without storage: its names and shapes, and no time spent on random numbers."""
    with torch.device("meta"), _Unfilled():
        return CaptionModel(config)


class _Unfilled(TorchFunctionMode):
    """Skips initialisation, for which torch would load its compiler on the meta device."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function.__name__ in ("normal_", "uniform_", "erfinv_"):
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return function(*args, **kwargs)


def weight_shapes(config: CaptionConfig) -> dict[str, torch.Size]:
    """Name and shape of every weight of a captioner of these sizes."""
    return {name: weight.shape for name, weight in empty_model(config).state_dict().items()}


def mlp_ratio(dim: int, hidden_dim: int) -> float:
    """The `mlp_ratio` that makes an MLP of exactly `hidden_dim`: int(dim * ratio)."""
    ratio = hidden_dim / dim
    return ratio if int(dim * ratio) == hidden_dim else math.nextafter(ratio, math.inf)


def import_weights(
    theirs: Mapping[str, Tensor],
    layout: Layout,
    shapes: Mapping[str, torch.Size],
    where: str,
    partial: bool = False,
) -> dict[str, Tensor]:
    """Their weights by our names, joined where ours are, in fp32.

    Args:
        theirs: name -> tensor, as the file holds them.
        layout: how the file names them.
        shapes: name and shape of each of our weights; see `weight_shapes`.
        where: what errors call the file.
        partial: let the file hold more; see `left_over`.

    Raises:
        CheckpointError: naming the weights that are missing, unexpected, mis-shaped, not floating-point, or stored twice and unequal.
    """
    theirs = _without_copies(theirs, layout, where)
    parts = {ours: their_names(ours, layout.names) for ours in shapes}
    faults = {
        "missing": [name for names in parts.values() for name in names if name not in theirs],
        "unexpected": [] if partial else left_over(theirs, layout, shapes),
        "mis-shaped": list(_misshaped(theirs, parts, shapes)),
        "not floating-point": [
            f"{name} ({theirs[name].dtype})"
            for names in parts.values()
            for name in names
            if name in theirs and not theirs[name].is_floating_point()
        ],
    }
    if any(faults.values()):
        found = "; ".join(f"{kind}: {listed(names)}" for kind, names in faults.items() if names)
        raise CheckpointError(
            f"{where}: the weights do not fit a model of these sizes ({found}); give a file and a config that belong together"
        )
    return {ours: _joined([theirs[name] for name in names]) for ours, names in parts.items()}


def export_weights(ours: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Our weights (or gradients, or anything of their shapes) by their names, split where theirs are.

    Duplicates and buffers of the layout are not among them.
    """
    theirs: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        tensor, names = tensor.detach(), their_names(name, layout.names)
        pieces = (
            (tensor,)
            if len(names) == 1
            else tuple(piece.clone() for piece in tensor.chunk(len(names)))
        )
        theirs.update(zip(names, pieces, strict=True))
    return theirs


def their_names(ours: str, names: Names) -> tuple[str, ...]:
    """What another layout calls our weight: one name, or those of the tensors that ours joins."""
    number = _NUMBER.search(ours)
    pattern = _NUMBER.sub("{}", ours)
    module, _, leaf = pattern.rpartition(".")
    theirs, end = (names[pattern], "") if pattern in names else (names[module], f".{leaf}")
    parts = (theirs,) if isinstance(theirs, str) else theirs
    return tuple(part.format(number and number[0]) + end for part in parts)


def left_over(theirs: Iterable[str], layout: Layout, ours: Iterable[str]) -> list[str]:
    """Which of their names are neither one of `ours` nor known to hold nothing new."""
    known = {name for each in ours for name in their_names(each, layout.names)}.union(
        layout.copies, layout.buffers
    )
    return [name for name in theirs if name not in known]


def listed(names: Iterable[str], most: int = 8) -> str:
    """The first `most` names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def _without_copies(theirs: Mapping[str, Tensor], layout: Layout, where: str) -> dict[str, Tensor]:
    """Tensors stored twice once; the copy stands in where only it was stored."""
    kept = {name: tensor for name, tensor in theirs.items() if name not in layout.copies}
    for copy, original in layout.copies.items():
        if copy in theirs and not torch.equal(
            kept.setdefault(original, theirs[copy]), theirs[copy]
        ):
            raise CheckpointError(
                f"{where}: {copy} differs from {original}, but a captioner has them tied; "
                "make them equal in the library that the file comes from"
            )
    return kept


def _misshaped(
    theirs: Mapping[str, Tensor],
    parts: Mapping[str, tuple[str, ...]],
    shapes: Mapping[str, torch.Size],
) -> Iterable[str]:
    for ours, names in parts.items():
        expected = (shapes[ours][0] // len(names), *shapes[ours][1:])
        for name in names:
            if name in theirs and tuple(theirs[name].shape) != expected:
                yield f"{name} {tuple(theirs[name].shape)} instead of {expected}"


def _joined(tensors: list[Tensor]) -> Tensor:
    joined = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
    return joined.detach().float().contiguous()
