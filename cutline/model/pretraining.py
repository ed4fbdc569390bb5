"""`PretrainModel`: a captioner and a matcher that share most of their weights, with their losses.

BLIP models/blip_pretrain.py. Text encoder and text decoder differ in their self-attention (its
output projection and LayerNorm included) and in the decoder's LM head; all else is shared.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cutline.config import MatchConfig, TextConfig
from cutline.distributed import all_reduce_sum
from cutline.model.activation_checkpointing import run_layer
from cutline.model.attention import SelfAttention, make_text_mask
from cutline.model.cache import CacheLayer, KeysValues
from cutline.model.match_training import MatchTrainingModel, replace_first
from cutline.model.text import TextLayer, TextTransformer

_DECODER, _LM_HEAD = ".decoder.", ".lm_head."
"""in the names of weights that only captions need"""
_HEADS = ("vision_proj.", "text_proj.", "itm_head.")
"""beginnings of the names of weights that only matching needs, beside the text encoder"""


class PretrainLoss(NamedTuple):
    """The losses of a batch, each the mean over pairs or tokens, (), and the temperature."""

    itc: Tensor
    itm: Tensor
    lm: Tensor
    temperature: Tensor

    @property
    def total(self) -> Tensor:
        """Return what is minimized."""
        return self.itc + self.itm + self.lm


class DecoderAttention(nn.Module):
    """What a layer of the text decoder does not share with the encoder."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config.embed_dim, config.num_heads, config.attn_dropout)
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=config.layer_norm_eps)


class SharedTextLayer(TextLayer):
    """A layer of the text encoder, and of the text decoder."""

    def __init__(self, config: TextConfig, image_dim: int) -> None:
        super().__init__(config, image_dim)
        self.decoder = DecoderAttention(config)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool,
        image: Tensor | KeysValues | None,
        cache: CacheLayer | None = None,
        decodes: bool = False,
    ) -> Tensor:
        """Run the layer of the encoder as `TextLayer` does or, if it `decodes`, of the decoder."""
        if not decodes:
            return super().forward(x, mask, causal, image, cache)
        attended = self.decoder.self_attn(x, mask, causal, cache)
        return self.read_image(self.decoder.norm1(x + self.dropout(attended)), image)


class SharedTextTransformer(TextTransformer):
    """A text encoder, and a text decoder with an LM head."""

    layer_class = SharedTextLayer

    def __init__(self, config: TextConfig, image_dim: int, has_lm_head: bool = True) -> None:
        super().__init__(config, image_dim, has_lm_head=True)

    def decode(self, input_ids: Tensor, attention_mask: Tensor, image_embeds: Tensor) -> Tensor:
        """Compute the hidden states of the decoder; for the arguments see `forward`."""
        mask = make_text_mask(attention_mask.bool(), causal=True)
        x = self.embed(input_ids, torch.arange(input_ids.shape[1], device=input_ids.device))
        for layer in self.layers:
            x = run_layer(layer, self.checkpoint_policy, x, mask, False, image_embeds, None, True)
        return x


class PretrainModel(MatchTrainingModel):
    """A network that is trained by ITC, ITM and the LM loss."""

    text_class: ClassVar[type[TextTransformer]] = SharedTextTransformer
    text: SharedTextTransformer

    def __init__(
        self,
        config: MatchConfig,
        enc_id: int,
        dec_id: int,
        negative_all_rank: bool = False,
        label_smoothing: float = 0.1,
    ) -> None:
        """Build the network.

        Args:
            config: As for `MatchTrainingModel`.
            enc_id: As for `MatchTrainingModel`.
            dec_id: Id of [DEC], the first token of a caption.
            negative_all_rank: As for `MatchTrainingModel`.
            label_smoothing: That of the LM loss.
        """
        super().__init__(config, enc_id, negative_all_rank)
        self.dec_id, self.label_smoothing = dec_id, label_smoothing

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor | None,
        input_ids: Tensor,
        attention_mask: Tensor,
        image_keys: Tensor,
        text_keys: Tensor,
        image_embeds: Tensor | None = None,
    ) -> PretrainLoss:
        """Compute the losses; for the arguments see `MatchTrainingModel`."""
        if image_embeds is None:
            image_embeds = self.vision(pixel_values)
        match = super().forward(
            pixel_values, input_ids, attention_mask, image_keys, text_keys, image_embeds
        )
        lm = self._caption(input_ids, attention_mask, text_keys, image_embeds)
        return PretrainLoss(match.itc, match.itm, lm, match.temperature)

    def _caption(
        self, input_ids: Tensor, attention_mask: Tensor, text_keys: Tensor, image_embeds: Tensor
    ) -> Tensor:
        """Compute the LM loss of every token but the first, their mean.

        In training mode, tokens have equal weights in all processes: the mean over the processes,
        weighted by their numbers of pairs, is that over all tokens.
        """
        ids = replace_first(input_ids, self.dec_id)
        hidden = self.text.decode(ids, attention_mask, image_embeds)[:, :-1]
        scored = attention_mask[:, 1:].bool()
        losses = F.cross_entropy(
            self.text.compute_logits(hidden[scored]).float(),
            ids[:, 1:][scored],
            label_smoothing=self.label_smoothing,
            reduction="none",
        )
        is_pair = text_keys > 0
        pairs, tokens = float(is_pair.sum()), float(scored[is_pair].sum())
        all_pairs, all_tokens = all_reduce_sum(pairs, tokens) if self.training else (pairs, tokens)
        return losses.sum() * (all_pairs / max(1.0, pairs * all_tokens))


def split_pretrained(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights of the captioner and those of the matcher in a `PretrainModel`."""
    names = [name for name in weights if name.startswith(("vision.", "text.", *_HEADS))]
    decoder = {name.replace(_DECODER, "."): name for name in names if _DECODER in name}
    captioner = {name: name for name in names if _DECODER not in name} | decoder
    return (
        {name: weights[key] for name, key in captioner.items() if not name.startswith(_HEADS)},
        {name: weights[name] for name in names if _DECODER not in name and _LM_HEAD not in name},
    )


def join_pretrained(
    model: PretrainModel, captioner: Mapping[str, Tensor], matcher: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the weights of a network that starts from a captioner, a matcher, or both.

    The decoder is that of the captioner, and all else that of the matcher; each is also the source
    of what the other one lacks. Weights that neither has are left out.
    """
    joined = {}
    for name in model.state_dict():
        first, second = matcher, captioner
        if _DECODER in name or _LM_HEAD in name:
            first, second = captioner, matcher
        source = name.replace(_DECODER, ".")
        if source in first or source in second:
            joined[name] = first[source] if source in first else second[source]
    return joined
