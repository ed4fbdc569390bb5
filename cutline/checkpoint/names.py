"""Names of a model's weights in each format: tables from native names to names in the file.

A native name is one of the network's `state_dict`. An entry names a module (its weight and bias) or
a single tensor; `{}` is the number of the layer. Where the native model joins several
tensors along dim 0, the entry is a tuple of their names.
"""

import re
from collections.abc import Callable, Mapping
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


def change_names(names: Names, change: Callable[[str], str]) -> Names:
    """Return the table with other names in the file."""
    return {
        native: change(name) if isinstance(name, str) else tuple(map(change, name))
        for native, name in names.items()
    }


def add_prefix(prefix: str, names: Names) -> Names:
    """Return the table with `prefix` before each name in the file."""
    return change_names(names, lambda name: prefix + name)


TEXT_ENCODER = change_names(  # BLIP's `BertModel`, without an LM head
    {native: name for native, name in TEXT.items() if not native.startswith("text.lm_head.")},
    lambda name: name.removeprefix("bert."),
)
MATCH_HEADS: Names = {name: name for name in ("vision_proj", "text_proj", "itm_head")}


@dataclass(frozen=True)
class WeightFormat:
    """How a kind of file names and stores the weights of a kind of model."""

    names: Names
    """native name -> name in the file"""
    copies: Mapping[str, str]
    """name of a tensor that is stored twice -> name of the original"""
    buffers: tuple[str, ...] = ()
    """names of tensors that are not weights"""
    ignored: re.Pattern[str] = re.compile(r"(?!)")
    """beginnings of names of what only training needs, or only other models"""


NATIVE = WeightFormat({name: name for name in [*VISION, *TEXT]}, copies={})
"""cutline folders of captioners"""

NATIVE_MATCHER = WeightFormat(
    {name: name for name in [*VISION, *TEXT_ENCODER, *MATCH_HEADS]}, copies={}
)
"""cutline folders of matchers"""

_ENCODER, _DECODER = "text_encoder.", "text_decoder."
_COPIES = {_DECODER + copy: _DECODER + original for copy, original in TEXT_COPIES.items()}
_DECODER_IDS = "text_decoder.bert.embeddings.position_ids"
_ENCODER_IDS = "text_encoder.embeddings.position_ids"

SALESFORCE = WeightFormat(
    {**add_prefix("visual_encoder.", VISION), **add_prefix(_DECODER, TEXT)},
    _COPIES,
    (_DECODER_IDS,),
)
"""the published .pth files of captioners and those of BLIP's training code"""

TEMPERATURE = "temp"
"""temperature of the contrastive loss in BLIP's files, a setting here"""

SALESFORCE_MATCHER = WeightFormat(
    {
        **add_prefix("visual_encoder.", VISION),
        **add_prefix(_ENCODER, TEXT_ENCODER),
        **MATCH_HEADS,
    },
    {},
    (_ENCODER_IDS,),
    re.compile(
        r"(visual_encoder|text_encoder|vision_proj|text_proj)_m\."  # momentum encoders
        r"|((image|text|idx|ptr)_queue|queue_ptr|temp)$"
        r"|text_decoder\."  # of pre-trained files, which contain a captioner as well
    ),
)
"""the published .pth files of matchers, pre-trained ones too, and those of BLIP's training code"""

_BLOCK = "vision_model.encoder.layers.{}"

HUGGINGFACE_VISION: Names = {
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
}
_PATCH_IDS = "vision_model.embeddings.position_ids"

HUGGINGFACE = WeightFormat(
    {**HUGGINGFACE_VISION, **add_prefix(_DECODER, TEXT)}, _COPIES, (_DECODER_IDS, _PATCH_IDS)
)
"""`BlipForConditionalGeneration` of transformers"""

HUGGINGFACE_MATCHER = WeightFormat(
    {**HUGGINGFACE_VISION, **add_prefix(_ENCODER, TEXT_ENCODER), **MATCH_HEADS},
    {},
    (_ENCODER_IDS, _PATCH_IDS),
)
"""`BlipForImageTextRetrieval` of transformers"""
