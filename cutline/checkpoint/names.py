"""Names of a captioner's weights in each format: tables from native names to names in the file.

A native name is one of `CaptionModel.state_dict`. An entry names a module (its weight and bias) or
a single tensor; `{}` is the number of the layer. Where the native model joins several
tensors along dim 0, the entry is a tuple of their names.
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

_LAYER = "text.layers.{}"
_ATTENTION = "bert.encoder.layer.{}.attention"
_CROSS = "bert.encoder.layer.{}.crossattention"

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


def add_prefix(prefix: str, names: Names) -> Names:
    """Return the table with `prefix` before each name in the file."""
    return {
        native: prefix + name if isinstance(name, str) else tuple(prefix + part for part in name)
        for native, name in names.items()
    }


@dataclass(frozen=True)
class WeightFormat:
    """How a kind of file names and stores a captioner's weights."""

    names: Names
    """native name -> name in the file"""
    copies: Mapping[str, str]
    """name of a tensor that is stored twice -> name of the original"""
    buffers: tuple[str, ...] = ()
    """names of tensors that are not weights"""


NATIVE = WeightFormat({name: name for name in [*VISION, *TEXT]}, copies={})
"""cutline folders"""

_DECODER = "text_decoder."
_COPIES = {_DECODER + copy: _DECODER + original for copy, original in TEXT_COPIES.items()}
_POSITION_IDS = "text_decoder.bert.embeddings.position_ids"

SALESFORCE = WeightFormat(
    {**add_prefix("visual_encoder.", VISION), **add_prefix(_DECODER, TEXT)},
    _COPIES,
    (_POSITION_IDS,),
)
"""the published .pth files and those of BLIP's training code"""

_BLOCK = "vision_model.encoder.layers.{}"

HUGGINGFACE = WeightFormat(
    {
        "vision.cls_token": "vision_model.embeddings.class_embedding",
        "vision.pos_embed": "vision_model.embeddings.position_embedding",
        "vision.patch_embed": "vision_model.embeddings.patch_embedding",
        "vision.blocks.{}.norm1": f"{_BLOCK}.layer_norm1",
        "vision.blocks.{}.attn.qkv": f"{_BLOCK}.self_attn.qkv",
        "vision.blocks.{}.attn.proj": f"{_BLOCK}.self_attn.projection",
        "vision.blocks.{}.norm2": f"{_BLOCK}.layer_norm2",
        "vision.blocks.{}.mlp.fc1": f"{_BLOCK}.mlp.fc1",
        "vision.blocks.{}.mlp.fc2": f"{_BLOCK}.mlp.fc2",
        "vision.norm": "vision_model.post_layernorm",
        **add_prefix(_DECODER, TEXT),
    },
    _COPIES,
    (_POSITION_IDS, "vision_model.embeddings.position_ids"),
)
"""`BlipForConditionalGeneration` of transformers"""
