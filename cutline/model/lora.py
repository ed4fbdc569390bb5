"""LoRA: low-rank adaptation of frozen linear layers (Hu et al., 2021, arXiv 2106.09685)."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutline.errors import ConfigError
from cutline.messages import format_value

_A, _B = ".lora_a", ".lora_b"


class LoraLinear(nn.Linear):
    """A linear layer with a low-rank update: W x + b + scale * B A x. B is zero at first."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float, dropout: float) -> None:
        # On "meta" nothing is allocated: weight and bias are those of `linear`.
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.scale, self.dropout = scale, dropout
        self.lora_a = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)
        self.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) -> (..., out)."""
        low_rank = F.linear(F.dropout(x, self.dropout, self.training), self.lora_a)  # (..., r)
        return F.linear(x, self.weight, self.bias) + self.scale * F.linear(low_rank, self.lora_b)


def add_lora(
    model: nn.Module, targets: Sequence[str], rank: int, scale: float, dropout: float = 0.0
) -> list[str]:
    """Replace matching linear layers by `LoraLinear`, and freeze all other weights.

    Args:
        model: Changed in place.
        targets: Patterns of layer names, such as "text.*.self_attn.qkv" or "*.proj".
        rank: Rank of the update B A.
        scale: Factor of the update, alpha / rank.
        dropout: Probability of dropout on the LoRA input, in training.

    Returns:
        The names of the replaced layers.

    Raises:
        ConfigError: A pattern matches no linear layer.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for target in targets:
        if not any(fnmatchcase(name, target) for name in layers):
            kinds = sorted({"*." + name.rpartition(".")[2] for name in layers})
            raise ConfigError(
                f"lora.targets: no linear layer matches {format_value(target)}: "
                f"use {', '.join(kinds)}, or names within `vision.*` and `text.*`"
            )
    model.requires_grad_(False)
    replaced = [name for name in layers if any(fnmatchcase(name, target) for target in targets)]
    for name in replaced:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, LoraLinear(layers[name], rank, scale, dropout))
    return replaced


@torch.no_grad()
def merge_lora(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Merge LoRA updates into the weights that they adapt, W + scale * B A.

    Args:
        weights: The state of a model with `LoraLinear` layers, by name.
        scale: Factor of the update, as for `add_lora`.

    Returns:
        The weights of the model without LoRA, by name.
    """
    merged = {name: tensor for name, tensor in weights.items() if not name.endswith((_A, _B))}
    for name, a in weights.items():
        if name.endswith(_A):
            layer = name.removesuffix(_A)
            merged[f"{layer}.weight"] = merged[f"{layer}.weight"] + scale * weights[layer + _B] @ a
    return merged
