"""The Vision Transformer: an image in, its visual tokens out (BLIP models/vit.py; Dosovitskiy et al., 2021)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutline.config import VisionConfig
from cutline.model.activation_checkpointing import Recompute, run_layer
from cutline.model.attention import SelfAttention


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


def drop_path(x: Tensor, rate: float) -> Tensor:
    """Stochastic depth: zero whole samples of x, (B, ...), with probability `rate`; the others are scaled up."""
    keep = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(1 - rate)
    return x * keep / (1 - rate)


class VisionBlock(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: VisionConfig, drop_path: float) -> None:
        super().__init__()
        dim = config.embed_dim
        self.norm1 = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.attn = SelfAttention(dim, config.num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        x = x + self._dropped(self.attn(self.norm1(x)))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        return drop_path(x, self.drop_path) if self.training and self.drop_path > 0 else x


class VisionTransformer(nn.Module):
    """Patches and a class token through pre-norm blocks, with a final norm over all tokens."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.config = config
        self.patch_embed = nn.Conv2d(
            3, dim, kernel_size=config.patch_size, stride=config.patch_size
        )
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.num_tokens, dim))
        rates = [
            config.drop_path * block / max(1, config.depth - 1) for block in range(config.depth)
        ]
        self.blocks = nn.ModuleList(VisionBlock(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.recompute: list[Recompute] = ["nothing"] * config.depth
        self.init_weights()

    def init_weights(self) -> None:
        """The reference's initialisation: normal of 0.02 cut at two absolute units, biases zero, patches as PyTorch does."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """pixel_values (B, 3, S, S) -> image_embeds (B, N, D). Raises ValueError for another image size."""
        size = self.config.image_size
        if pixel_values.shape[-2:] != (size, size):
            raise ValueError(
                f"the model takes images of {size} x {size}, not {tuple(pixel_values.shape[-2:])}"
            )
        x = self.patch_embed(pixel_values).flatten(2).transpose(1, 2)  # (B, N - 1, D)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block, how in zip(self.blocks, self.recompute, strict=True):
            x = run_layer(block, how, x)
        return self.norm(x)  # type: ignore[no-any-return]


def interpolate_positions(pos_embed: Tensor, num_tokens: int) -> Tensor:
    """Positions (1, N, D) for another image size, (1, num_tokens, D): the grid bicubically, the class token kept.

    As the reference's `interpolate_pos_embed`, in fp32 with `align_corners=False`.
    """
    if pos_embed.shape[1] == num_tokens:
        return pos_embed
    old, new = round((pos_embed.shape[1] - 1) ** 0.5), round((num_tokens - 1) ** 0.5)
    grid = pos_embed[:, 1:].float().unflatten(1, (old, old)).permute(0, 3, 1, 2)  # (1, D, old, old)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([pos_embed[:, :1], grid.flatten(2).transpose(1, 2).to(pos_embed.dtype)], dim=1)
