"""Low-rank adaptation: a projection stays as it is, and a product of two small matrices beside it learns (Hu et al., 2021)."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutline.errors import ConfigError

_A, _B = ".lora_a", ".lora_b"


class LoraLinear(nn.Linear):
    """W x + b + scale * B A x, with B zero at first, so that nothing changes until it learns."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float, dropout: float) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.scale, self.dropout = scale, dropout
        self.lora_a = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)
        self.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        small = F.linear(F.dropout(x, self.dropout, self.training), self.lora_a)  # (..., r)
        return F.linear(x, self.weight, self.bias) + self.scale * F.linear(small, self.lora_b)


def add_lora(
    model: nn.Module, targets: Sequence[str], rank: int, scale: float, dropout: float = 0.0
) -> list[str]:
    """Put a `LoraLinear` in place of every linear layer whose name matches one of `targets`; all other weights are frozen.

    Args:
        model: changed in place.
        targets: patterns of names, such as "text.*.self_attn.qkv" or "*.proj".
        rank: of the learned product.
        scale: how many times the product counts.
        dropout: on what the product reads, in training.

    Returns:
        the names of the layers that learn.

    Raises:
        ConfigError: a pattern matches no layer.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    for target in targets:
        if not any(fnmatchcase(name, target) for name in layers):
            kinds = sorted({"*." + name.rpartition(".")[2] for name in layers})
            raise ConfigError(
                f"no projection is called {target!r}: there are {', '.join(kinds)}, in `vision.*` and `text.*`"
            )
    model.requires_grad_(False)
    chosen = [name for name in layers if any(fnmatchcase(name, target) for target in targets)]
    for name in chosen:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LoraLinear(layers[name], rank, scale, dropout))
    return chosen


@torch.no_grad()
def merge_lora(weights: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The weights of the plain model, W + scale * B A, from those of one with `LoraLinear` layers, by name."""
    merged = {name: tensor for name, tensor in weights.items() if not name.endswith((_A, _B))}
    for name, a in weights.items():
        if name.endswith(_A):
            layer = name.removesuffix(_A)
            merged[f"{layer}.weight"] = merged[f"{layer}.weight"] + scale * weights[layer + _B] @ a
    return merged
