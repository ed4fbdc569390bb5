"""The text side: BERT with a cross-attention to the image in every layer (BLIP models/med.py; Devlin et al., 2019)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutline.config import TextConfig
from cutline.model.activation_checkpointing import Recompute, run_layer
from cutline.model.attention import CrossAttention, KeysValues, SelfAttention, text_mask
from cutline.model.cache import CacheLayer, TextCache
from cutline.model.vision import Mlp


class TextLayer(nn.Module):
    """Post-norm self-attention, cross-attention and MLP; without an image the cross-attention is skipped."""

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
        """x (R, T, D); image: (B, N, D_vision), or its keys and values, (B, H, N, d) each, or None for text alone."""
        x = self.norm1(x + self.dropout(self.self_attn(x, mask, causal, cache)))
        if image is not None:
            image_kv = self.cross_attn.keys_values(image) if isinstance(image, Tensor) else image
            x = self.norm2(x + self.dropout(self.cross_attn(x, image_kv)))
        return self.norm3(x + self.dropout(self.mlp(x)))  # type: ignore[no-any-return]


class LMHead(nn.Module):
    """Dense, GELU, LayerNorm, then the token embedding as projection, with a bias of its own."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.embed_dim, config.embed_dim)
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, x: Tensor, token_embed: Tensor) -> Tensor:
        """x (..., D), token_embed (V, D) -> logits (..., V)."""
        return F.linear(self.norm(F.gelu(self.dense(x))), token_embed, self.bias)


class TextTransformer(nn.Module):
    """BERT with cross-attention and a tied LM head."""

    def __init__(self, config: TextConfig, image_dim: int) -> None:
        super().__init__()
        self.config = config
        self.token_embed = nn.Embedding(config.vocab_size, config.embed_dim)
        self.pos_embed = nn.Embedding(config.max_positions, config.embed_dim)
        self.norm = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(TextLayer(config, image_dim) for _ in range(config.depth))
        self.lm_head = LMHead(config)
        self.recompute: Recompute = "nothing"
        self.init_weights()

    def init_weights(self) -> None:
        """BERT's initialisation: normal of 0.02, biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def image_keys_values(self, image_embeds: Tensor) -> Iterator[KeysValues]:
        """Each layer's cross-attention keys and values of image_embeds (B, N, D_vision), (B, H, N, d) each, one after another."""
        for layer in self.layers:
            yield layer.cross_attn.keys_values(image_embeds)  # type: ignore[union-attr,operator]

    def embed(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        """input_ids (R, T), positions (T,) or (R, T) -> (R, T, D)."""
        return self.dropout(self.norm(self.token_embed(input_ids) + self.pos_embed(positions)))  # type: ignore[no-any-return]

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        image_embeds: Tensor | None = None,
        causal: bool = True,
    ) -> Tensor:
        """Hidden states of whole texts.

        Args:
            input_ids: (R, T), padded on the right; R = B * K rows, K per image.
            attention_mask: (R, T), 1 at tokens and 0 at padding; None when nothing is padded.
            image_embeds: (B, N, D_vision), or None for text alone (`mode="text"` of the reference).
            causal: whether a token sees only itself and those before it.

        Returns:
            (R, T, D).
        """
        mask = None if attention_mask is None else text_mask(attention_mask.bool(), causal)
        x = self.embed(input_ids, torch.arange(input_ids.shape[1], device=input_ids.device))
        for layer in self.layers:
            x = run_layer(layer, self.recompute, x, mask, causal and mask is None, image_embeds)
        return x

    def step(self, input_ids: Tensor, cache: TextCache) -> Tensor:
        """Read the next tokens of every beam, input_ids (B, K, T), and return the last one's hidden states, (B, K, D)."""
        layers, positions, mask = cache.advance(*input_ids.shape)
        x = self.embed(
            input_ids.flatten(1), positions.flatten(1)
        )  # (B, K * T, D): all beams of an image query it together
        for layer, layer_cache in zip(self.layers, layers, strict=True):
            x = layer(x, mask, False, layer_cache.image_kv, layer_cache)
        return x.view(*input_ids.shape, -1)[:, :, -1]

    def logits(self, x: Tensor) -> Tensor:
        """Hidden states (..., D) -> logits (..., V)."""
        return self.lm_head(x, self.token_embed.weight)  # type: ignore[no-any-return]
