"""The text side: BERT with cross-attention to the image in each layer.

BLIP models/med.py; Devlin et al., 2019, arXiv 1810.04805.
"""

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutline.config import TextConfig
from cutline.model.activation_checkpointing import CheckpointPolicy, run_layer
from cutline.model.attention import CrossAttention, SelfAttention, make_text_mask
from cutline.model.cache import CacheLayer, KeysValues, TextCache
from cutline.model.fixed_scale import normalize_fixed_scale
from cutline.model.vision import Mlp


class TextLayer(nn.Module):
    """Post-norm self-attention, cross-attention and MLP."""

    def __init__(self, config: TextConfig, image_dim: int) -> None:
        super().__init__()
        dim, eps = config.embed_dim, config.layer_norm_eps
        self.self_attn = SelfAttention(dim, config.num_heads, config.attn_dropout)
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.cross_attn = CrossAttention(dim, image_dim, config.num_heads, config.attn_dropout)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, config.mlp_dim)
        self.norm3 = nn.LayerNorm(dim, eps=eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool,
        image: Tensor | KeysValues | None,
        cache: CacheLayer | None = None,
    ) -> Tensor:
        """Run the layer.

        Args:
            x: (R, T, D).
            mask: As for `SelfAttention`.
            causal: As for `SelfAttention`.
            image: Embeddings (B, N, D_vision), or keys and values, (B, H, N, d) each, or None to
                skip the cross-attention.
            cache: As for `SelfAttention`.

        Returns:
            (R, T, D).
        """
        x = self.norm1(x + self.dropout(self.self_attn(x, mask, causal, cache)))
        return self.read_image(x, image)

    def forward_with_attention(self, x: Tensor, image_embeds: Tensor) -> tuple[Tensor, Tensor]:
        """Run the layer without dropout, and return its cross-attention too.

        Args:
            x: (B, T, D), one text per image.
            image_embeds: (B, N, D_vision).

        Returns:
            The output (B, T, D), and the attention weights (B, H, T, N) in fp32, from which it is
            computed, so that it has a gradient with respect to them.
        """
        x = normalize_fixed_scale(self.norm1, x + self.self_attn(x, None, causal=True))
        image_kv = self.cross_attn.project_image(image_embeds)
        weights = self.cross_attn.weigh(x, image_kv)
        mixed = self.cross_attn.mix(weights, image_kv, x.dtype)
        x = normalize_fixed_scale(self.norm2, x + mixed)
        return normalize_fixed_scale(self.norm3, x + self.mlp(x)), weights

    def read_image(self, x: Tensor, image: Tensor | KeysValues | None) -> Tensor:
        """Run cross-attention and MLP, which follow the self-attention; see `forward`."""
        if image is not None:
            image_kv = self.cross_attn.project_image(image) if isinstance(image, Tensor) else image
            x = self.norm2(x + self.dropout(self.cross_attn(x, image_kv)))
        out: Tensor = self.norm3(x + self.dropout(self.mlp(x)))
        return out


class LMHead(nn.Module):
    """Linear layer, GELU, LayerNorm, and a projection tied to the token embedding, with a bias."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.embed_dim, config.embed_dim)
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: Tensor, token_embed: Tensor) -> Tensor:
        """Map x (..., D) and token_embed (V, D) to logits (..., V)."""
        return F.linear(self.norm(F.gelu(self.dense(x))), token_embed, self.bias)

    def forward_fixed_scale(self, x: Tensor, token_embed: Tensor) -> Tensor:
        """Return what `forward` does, with the gradient of `normalize_fixed_scale`."""
        hidden = normalize_fixed_scale(self.norm, F.gelu(self.dense(x)))
        return F.linear(hidden, token_embed, self.bias)


class TextTransformer(nn.Module):
    """BERT with cross-attention and, for a captioner, a tied LM head."""

    layer_class: ClassVar[type[TextLayer]] = TextLayer

    def __init__(self, config: TextConfig, image_dim: int, has_lm_head: bool = True) -> None:
        super().__init__()
        self.config = config
        self.token_embed = nn.Embedding(config.vocab_size, config.embed_dim)
        self.pos_embed = nn.Embedding(config.max_positions, config.embed_dim)
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(
            self.layer_class(config, image_dim) for _ in range(config.depth)
        )
        self.lm_head = LMHead(config) if has_lm_head else None
        self.checkpoint_policy: CheckpointPolicy = "none"
        self.init_weights()

    def init_weights(self) -> None:
        """Initialize as BERT does: weights from a normal distribution of std 0.02, biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self.token_embed.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Return the data type of the embeddings."""
        return self.token_embed.weight.dtype

    def project_image(self, image_embeds: Tensor) -> Iterator[KeysValues]:
        """Yield each layer's cross-attention keys and values, (B, H, N, d) each.

        Args:
            image_embeds: (B, N, D_vision).
        """
        for layer in self.layers:
            yield layer.cross_attn.project_image(image_embeds)  # type: ignore[union-attr,operator]

    def embed(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Embed input_ids (R, T) at position_ids (T,) or (R, T) -> (R, T, D)."""
        embeds = self.token_embed(input_ids) + self.pos_embed(position_ids)
        out: Tensor = self.dropout(self.norm(embeds))
        return out

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        image_embeds: Tensor | None = None,
        causal: bool = True,
        image_kv: Sequence[KeysValues] | None = None,
    ) -> Tensor:
        """Compute the hidden states of complete texts.

        Args:
            input_ids: (R, T), padded on the right; R = B * K rows, K per image.
            attention_mask: (R, T), 1 at tokens and 0 at padding; None without padding.
            image_embeds: (B, N, D_vision), or None for text alone (`mode="text"` in BLIP's code).
            causal: Whether a token attends only to itself and earlier tokens.
            image_kv: What `project_image` yields, instead of image_embeds.

        Returns:
            (R, T, D).
        """
        mask = None if attention_mask is None else make_text_mask(attention_mask.bool(), causal)
        causal = causal and mask is None
        x = self.embed(input_ids, torch.arange(input_ids.shape[1], device=input_ids.device))
        images = [image_embeds] * len(self.layers) if image_kv is None else image_kv
        for layer, image in zip(self.layers, images, strict=True):
            x = run_layer(layer, self.checkpoint_policy, x, mask, causal, image)
        return x

    def forward_with_attention(
        self, input_ids: Tensor, image_embeds: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Compute the hidden states of complete texts, and the cross-attention of each layer.

        Slower than `forward`, which never holds the attention weights. There is no dropout, and
        gradients are those of `normalize_fixed_scale`.

        Args:
            input_ids: (B, T), one text per image, padded on the right; attention is causal, so that
                padding needs no mask.
            image_embeds: (B, N, D_vision).

        Returns:
            The hidden states (B, T, D), and the attention weights of each layer, (B, H, T, N).
        """
        x = self.embed(input_ids, torch.arange(input_ids.shape[1], device=input_ids.device))
        attention = []
        for layer in self.layers:
            x, weights = layer.forward_with_attention(x, image_embeds)  # type: ignore[operator]
            attention.append(weights)
        return x, attention

    def step(self, input_ids: Tensor, cache: TextCache) -> Tensor:
        """Run one decoding step.

        All beams of an image are queries of one row.

        Args:
            input_ids: (B, K, T).
            cache: Keys and values of images and earlier tokens; the new tokens are added.

        Returns:
            Hidden states of the last token of each beam, (B, K, D).
        """
        layers, position_ids, mask = cache.advance(*input_ids.shape)
        x = self.embed(input_ids.flatten(1), position_ids.flatten(1))  # (B, K * T, D)
        for layer, layer_cache in zip(self.layers, layers, strict=True):
            x = layer(x, mask, False, layer_cache.image_kv, layer_cache)
        return x.view(*input_ids.shape, -1)[:, :, -1]

    def compute_logits(self, x: Tensor) -> Tensor:
        """Map hidden states (..., D) to logits (..., V)."""
        assert self.lm_head is not None
        logits: Tensor = self.lm_head(x, self.token_embed.weight)
        return logits
