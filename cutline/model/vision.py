"""The Vision Transformer, which turns an image into visual tokens.

BLIP models/vit.py; Dosovitskiy et al., 2021, arXiv 2010.11929.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutline.config import VisionConfig
from cutline.model.activation_checkpointing import CheckpointPolicy, run_layer
from cutline.model.attention import SelfAttention
from cutline.model.token_merging import (
    append_sizes,
    compute_size_bias,
    count_sizes,
    init_assignment,
    merge_similar_tokens,
)


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) -> (..., D)."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


def drop_path(x: Tensor, rate: float) -> Tensor:
    """Apply stochastic depth to x (B, ...) (Huang et al., 2016, arXiv 1603.09382).

    Samples are zeroed with probability `rate`; the others are scaled by 1 / (1 - rate).
    """
    keep_mask = x.new_empty(len(x), *[1] * (x.dim() - 1)).bernoulli_(1 - rate)
    return x * keep_mask / (1 - rate)


class VisionBlock(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, config: VisionConfig, drop_path: float) -> None:
        super().__init__()
        dim = config.embed_dim
        self.norm1 = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.attn = SelfAttention(dim, config.num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=config.layer_norm_eps)
        self.mlp = Mlp(dim, config.mlp_dim)
        self.drop_path = drop_path

    def forward(
        self, x: Tensor, assignment: Tensor | None = None, num_merged: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """Run the block.

        Args:
            x: (B, N, D).
            assignment: See `token_merging`; None if no tokens merge.
            num_merged: R, the number of tokens that merge.

        Returns:
            (B, N - R, D), and the new assignment.
        """
        if assignment is None:
            x = x + self._drop(self.attn(self.norm1(x)))
        else:
            x, assignment = self._attend_and_merge(x, assignment, num_merged)
        return x + self._drop(self.mlp(self.norm2(x))), assignment

    def _attend_and_merge(
        self, x: Tensor, assignment: Tensor, num_merged: int
    ) -> tuple[Tensor, Tensor]:
        has_merged = x.shape[1] < assignment.shape[1]
        bias = compute_size_bias(count_sizes(assignment, x.shape[1])) if has_merged else None
        attended, keys = self.attn.forward_with_keys(self.norm1(x), bias)
        x = x + self._drop(attended)
        if not num_merged:
            return x, assignment
        return merge_similar_tokens(x, assignment, keys, num_merged)

    def _drop(self, x: Tensor) -> Tensor:
        return drop_path(x, self.drop_path) if self.training and self.drop_path > 0 else x


class VisionTransformer(nn.Module):
    """Patches and a class token, pre-norm blocks, and a final norm over all tokens."""

    def __init__(self, config: VisionConfig, merge_tokens: int = 0) -> None:
        """Initialize the encoder.

        Args:
            config: Sizes.
            merge_tokens: Number of similar visual tokens that each block merges, at most
                half of them (0: none); see `token_merging`.
        """
        super().__init__()
        dim = config.embed_dim
        self.config, self.merge_tokens = config, merge_tokens
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
        self.checkpoint_policies: list[CheckpointPolicy] = ["none"] * config.depth
        self.init_weights()

    def init_weights(self) -> None:
        """Initialize as BLIP's code does.

        Weights come from a normal distribution of std 0.02, truncated to [-2, 2]; biases are zero;
        the patch embedding keeps PyTorch's initialization.
        """
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Encode pixel_values (B, 3, S, S) to image_embeds.

        Returns:
            (B, N, D), or (B, N', D + 1) if tokens merge, with their sizes in the last channel.

        Raises:
            ValueError: The images are not of the configured size.
        """
        return self.forward_with_assignment(pixel_values)[0]

    def forward_with_assignment(self, pixel_values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what `forward` does, and the assignment (B, N) of the tokens if they merge."""
        check_image_size(pixel_values, self.config.image_size)
        x = self.patch_embed(pixel_values).flatten(2).transpose(1, 2)  # (B, N - 1, D)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        assignment = init_assignment(x) if self.merge_tokens else None
        merges = self.config.list_merges_per_block(self.merge_tokens)
        for block, policy, num_merged in zip(
            self.blocks, self.checkpoint_policies, merges, strict=True
        ):
            x, assignment = run_layer(block, policy, x, assignment, num_merged)
        out: Tensor = self.norm(x)
        return (out if assignment is None else append_sizes(out, assignment)), assignment


def check_image_size(pixel_values: Tensor, size: int) -> None:
    """Raise ValueError unless pixel_values are (B, 3, size, size)."""
    if pixel_values.shape[1:] != (3, size, size):
        shape = tuple(pixel_values.shape[1:])
        raise ValueError(f"the model takes images of shape (3, {size}, {size}), not {shape}")


def interpolate_pos_embed(pos_embed: Tensor, num_tokens: int) -> Tensor:
    """Interpolate position embeddings to another image size.

    The patch grid is interpolated bicubically in fp32 with `align_corners=False`, as BLIP's
    `interpolate_pos_embed` does; the class token's embedding stays the same.

    Args:
        pos_embed: (1, N, D).
        num_tokens: Number of visual tokens at the other image size.

    Returns:
        (1, num_tokens, D).
    """
    if pos_embed.shape[1] == num_tokens:
        return pos_embed
    old, new = round((pos_embed.shape[1] - 1) ** 0.5), round((num_tokens - 1) ** 0.5)
    grid = pos_embed[:, 1:].float().unflatten(1, (old, old)).permute(0, 3, 1, 2)  # (1, D, old, old)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([pos_embed[:, :1], grid.flatten(2).transpose(1, 2).to(pos_embed.dtype)], dim=1)
