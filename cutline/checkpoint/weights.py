"""The conversion of weights between formats."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from cutline.checkpoint.checkpoint import compute_weight_shapes
from cutline.checkpoint.kinds import AnyConfig
from cutline.checkpoint.names import Names, WeightFormat
from cutline.errors import CheckpointError
from cutline.messages import format_name, format_value

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def solve_mlp_ratio(dim: int, hidden_dim: int) -> float:
    """Return the ratio for which int(dim * ratio) is exactly `hidden_dim`."""
    ratio = hidden_dim / dim
    return ratio if int(dim * ratio) == hidden_dim else math.nextafter(ratio, math.inf)


def import_model(
    source: Mapping[str, Tensor],
    weight_format: WeightFormat,
    config: AnyConfig,
    where: str,
    partial: bool = False,
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Convert the weights of a model with these sizes from a format to native names.

    Returns:
        The weights (see `import_weights`), and the names of extra weights.

    Raises:
        CheckpointError: They do not fit.
    """
    depth = config.vision.depth + config.text.depth
    if depth > len(source):  # before a network with so many layers is built
        raise CheckpointError(
            f"{where}: contains {len(source)} weights, too few for the {depth} layers in the "
            "config; use a file and a config of the same model"
        )
    shapes = compute_weight_shapes(config)
    weights = import_weights(source, weight_format, shapes, where, partial)
    return weights, tuple(find_extra_weights(source, weight_format, shapes))


def import_weights(
    source: Mapping[str, Tensor],
    weight_format: WeightFormat,
    shapes: Mapping[str, torch.Size],
    where: str,
    partial: bool = False,
) -> dict[str, Tensor]:
    """Convert weights from a format to native names; concatenate those that are fused natively.

    Args:
        source: Name -> tensor, as in the file.
        weight_format: How the file names them.
        shapes: Name and shape of each native weight; see `compute_weight_shapes`.
        where: The file's name in errors.
        partial: Whether the file may contain more weights; see `find_extra_weights`.

    Returns:
        Native name -> tensor, in fp32 and in memory of its own.

    Raises:
        CheckpointError: Weights are missing, unexpected, of a wrong shape, not floating-point, NaN
            or infinite, or are stored twice and differ. The error names them.
    """
    source = _resolve_copies(source, weight_format, where)
    names_by_weight = {native: translate_name(native, weight_format.names) for native in shapes}
    problems = {
        "missing": [
            name for names in names_by_weight.values() for name in names if name not in source
        ],
        "unexpected": []
        if partial
        else list(map(format_name, find_extra_weights(source, weight_format, shapes))),
        "wrong shape": list(_describe_wrong_shapes(source, names_by_weight, shapes)),
        "not floating-point": [
            f"{name} ({source[name].dtype})"
            for names in names_by_weight.values()
            for name in names
            if name in source and not source[name].is_floating_point()
        ],
    }
    if any(problems.values()):
        details = "; ".join(
            f"{kind}: {format_names(names)}" for kind, names in problems.items() if names
        )
        raise CheckpointError(
            f"{where}: the weights do not fit a model with these sizes ({details}); "
            "use a file and a config of the same model"
        )
    weights = {
        native: _join([source[name] for name in names]) for native, names in names_by_weight.items()
    }
    if broken := [name for name, weight in weights.items() if not _is_finite(weight)]:
        names = (name for native in broken for name in names_by_weight[native])
        raise CheckpointError(
            f"{where}: NaN or infinite values in {format_names(names)}; "
            "use a checkpoint from before the training diverged"
        )
    return weights


def export_weights(weights: Mapping[str, Tensor], weight_format: WeightFormat) -> dict[str, Tensor]:
    """Convert native weights, or gradients, to a format, split where the format splits them.

    Copies and buffers of the format are not included.
    """
    exported: dict[str, Tensor] = {}
    for native, weight in weights.items():
        tensor, names = weight.detach(), translate_name(native, weight_format.names)
        if len(names) == 1:
            exported[names[0]] = tensor
        else:
            chunks = (chunk.clone() for chunk in tensor.chunk(len(names)))
            exported.update(zip(names, chunks, strict=True))
    return exported


def translate_name(native: str, names: Names) -> tuple[str, ...]:
    """Return the names in a format of the tensors that make up a native weight.

    For example, "vision.blocks.3.norm1.weight" is in the table as "vision.blocks.{}.norm1", and is
    "visual_encoder.blocks.3.norm1.weight" in BLIP's files.
    """
    number = _NUMBER.search(native)
    pattern = _NUMBER.sub("{}", native)
    module, _, leaf = pattern.rpartition(".")
    entry, suffix = (names[pattern], "") if pattern in names else (names[module], f".{leaf}")
    parts = (entry,) if isinstance(entry, str) else entry
    return tuple(part.format(number and number[0]) + suffix for part in parts)


def find_extra_weights(
    source: Iterable[str], weight_format: WeightFormat, native_names: Iterable[str]
) -> list[str]:
    """Return the names in `source` that are none of the format's for these native weights."""
    expected = {part for name in native_names for part in translate_name(name, weight_format.names)}
    expected.update(weight_format.copies, weight_format.buffers)
    return [
        name for name in source if name not in expected and not weight_format.ignored.match(name)
    ]


def format_names(names: Iterable[str], limit: int = 3) -> str:
    """Join the first `limit` names, and state how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _resolve_copies(
    source: Mapping[str, Tensor], weight_format: WeightFormat, where: str
) -> dict[str, Tensor]:
    """Drop copies of tensors; a copy replaces an original that is missing."""
    originals = {
        name: tensor for name, tensor in source.items() if name not in weight_format.copies
    }
    for copy, original in weight_format.copies.items():
        if copy in source and not torch.equal(
            originals.setdefault(original, source[copy]), source[copy]
        ):
            raise CheckpointError(
                f"{where}: {copy} differs from {original}, but a captioner ties them; "
                "make them equal in the library that wrote the file"
            )
    return originals


def _describe_wrong_shapes(
    source: Mapping[str, Tensor],
    names_by_weight: Mapping[str, tuple[str, ...]],
    shapes: Mapping[str, torch.Size],
) -> Iterator[str]:
    """Yield name, shape and expected shape of each tensor with a wrong shape."""
    for native, names in names_by_weight.items():
        expected = (shapes[native][0] // len(names), *shapes[native][1:])
        for name in names:
            if name in source and tuple(source[name].shape) != expected:
                shape = format_value(tuple(source[name].shape))
                yield f"{name} {shape} instead of {expected}"


def _join(tensors: list[Tensor]) -> Tensor:
    """Return a new tensor in fp32.

    The tensors of a file are views of it: if it is overwritten, they change, and if it is
    truncated, reading them ends the process.
    """
    if len(tensors) > 1:
        return torch.cat(tensors).detach().float()
    return tensors[0].detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def _is_finite(weight: Tensor) -> bool:
    """Return whether no value is NaN or infinite; the sum, read once, almost always suffices."""
    return bool(weight.sum().isfinite()) or bool(weight.isfinite().all())
