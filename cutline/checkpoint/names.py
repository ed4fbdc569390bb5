"""What others call a captioner's weights: tables from our names to theirs, `{}` standing for the number of the layer.

An entry names a module (its weight and bias) or a single tensor. Where ours joins several tensors along dim 0, theirs is a tuple.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Names = Mapping[str, str | tuple[str, ...]]

VISION: Names = {  # timm and BLIP models/vit.py
    "vision.cls_token": "cls_token",
    "vision.pos_embed": "pos_embed",
    "vision.patch_embed": "patch_embed.proj",
    "vision.blocks.{}.norm1": "blocks.{}.norm1",
    "vision.blocks.{}.attn.qkv": "blocks.{}.attn.qkv",
    "vision.blocks.{}.attn.proj": "blocks.{}.attn.proj",
    "vision.blocks.{}.norm2": "blocks.{}.norm2",
    "vision.blocks.{}.mlp.fc1": "blocks.{}.mlp.fc1",
    "vision.blocks.{}.mlp.fc2": "blocks.{}.mlp.fc2",
    "vision.norm": "norm",
}

_LAYER, _ATTENTION, _CROSS = (
    "text.layers.{}",
    "bert.encoder.layer.{}.attention",
    "bert.encoder.layer.{}.crossattention",
)

TEXT: Names = {  # BERT and BLIP models/med.py
    "text.token_embed": "bert.embeddings.word_embeddings",
    "text.pos_embed": "bert.embeddings.position_embeddings",
    "text.norm": "bert.embeddings.LayerNorm",
    f"{_LAYER}.self_attn.qkv": (
        f"{_ATTENTION}.self.query",
        f"{_ATTENTION}.self.key",
        f"{_ATTENTION}.self.value",
    ),
    f"{_LAYER}.self_attn.proj": f"{_ATTENTION}.output.dense",
    f"{_LAYER}.norm1": f"{_ATTENTION}.output.LayerNorm",
    f"{_LAYER}.cross_attn.q": f"{_CROSS}.self.query",
    f"{_LAYER}.cross_attn.kv": (f"{_CROSS}.self.key", f"{_CROSS}.self.value"),
    f"{_LAYER}.cross_attn.proj": f"{_CROSS}.output.dense",
    f"{_LAYER}.norm2": f"{_CROSS}.output.LayerNorm",
    f"{_LAYER}.mlp.fc1": "bert.encoder.layer.{}.intermediate.dense",
    f"{_LAYER}.mlp.fc2": "bert.encoder.layer.{}.output.dense",
    f"{_LAYER}.norm3": "bert.encoder.layer.{}.output.LayerNorm",
    "text.lm_head.dense": "cls.predictions.transform.dense",
    "text.lm_head.norm": "cls.predictions.transform.LayerNorm",
    "text.lm_head.bias": "cls.predictions.bias",
}

TEXT_COPIES = {  # the projection is tied to the token embedding, and its bias has two names
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def prefixed(prefix: str, names: Names) -> Names:
    """The table with `prefix` before each of their names."""
    return {
        ours: prefix + theirs
        if isinstance(theirs, str)
        else tuple(prefix + part for part in theirs)
        for ours, theirs in names.items()
    }


@dataclass(frozen=True)
class Layout:
    """How a kind of file names and stores a captioner's weights."""

    names: Names
    """our names -> theirs"""
    copies: Mapping[str, str]
    """their name of a tensor that is stored twice -> their name of the original"""
    buffers: tuple[str, ...] = ()
    """their names that hold no weights"""


OURS = Layout({name: name for name in [*VISION, *TEXT]}, copies={})
"""our own names, as `CaptionModel.state_dict` has them"""

_DECODER = "text_decoder."
_COPIES = {_DECODER + copy: _DECODER + original for copy, original in TEXT_COPIES.items()}
_POSITION_IDS = "text_decoder.bert.embeddings.position_ids"

SALESFORCE = Layout(
    {**prefixed("visual_encoder.", VISION), **prefixed(_DECODER, TEXT)}, _COPIES, (_POSITION_IDS,)
)
"""the published .pth files and those of BLIP's training code"""

_VISION_LAYER = "vision_model.encoder.layers.{}"

HUGGINGFACE = Layout(
    {
        "vision.cls_token": "vision_model.embeddings.class_embedding",
        "vision.pos_embed": "vision_model.embeddings.position_embedding",
        "vision.patch_embed": "vision_model.embeddings.patch_embedding",
        "vision.blocks.{}.norm1": f"{_VISION_LAYER}.layer_norm1",
        "vision.blocks.{}.attn.qkv": f"{_VISION_LAYER}.self_attn.qkv",
        "vision.blocks.{}.attn.proj": f"{_VISION_LAYER}.self_attn.projection",
        "vision.blocks.{}.norm2": f"{_VISION_LAYER}.layer_norm2",
        "vision.blocks.{}.mlp.fc1": f"{_VISION_LAYER}.mlp.fc1",
        "vision.blocks.{}.mlp.fc2": f"{_VISION_LAYER}.mlp.fc2",
        "vision.norm": "vision_model.post_layernorm",
        **prefixed(_DECODER, TEXT),
    },
    _COPIES,
    (_POSITION_IDS, "vision_model.embeddings.position_ids"),
)
"""`BlipForConditionalGeneration` of transformers"""
