"""Weights to start training from: of a Vision Transformer or a BERT."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cutline.checkpoint.names import TEXT, TEXT_COPIES, VISION, WeightFormat
from cutline.checkpoint.storage import read_weights
from cutline.checkpoint.weights import import_weights
from cutline.model import VisionTextModel, interpolate_pos_embed

TIMM = WeightFormat(VISION, copies={})
BERT = WeightFormat(TEXT, TEXT_COPIES, ("bert.embeddings.position_ids",))
IGNORED_WEIGHTS = re.compile(
    r"(head|head_dist|pre_logits|fc_norm|dist_token"
    r"|bert\.embeddings\.token_type_embeddings|bert\.pooler|cls\.seq_relationship)\b"
)
"""weights in such files that our models do not have; any other extra weight is an error, because
it means another architecture"""
_WORD_EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
NUM_NEW_TOKENS = 2
"""number of [DEC] and [ENC], the last tokens of the vocabulary"""


@dataclass(frozen=True)
class LoadReport:
    """Which weights a pretrained model provided."""

    loaded: int
    """number of the model's weights that were loaded"""
    initialized: tuple[str, ...]
    """weights of the same part of the model that keep their random initialization"""
    unused: tuple[str, ...]
    """weights in the file that the model does not have"""


def load_pretrained_vision(model: VisionTextModel, path: str | Path) -> LoadReport:
    """Load a Vision Transformer with timm's or DeiT's weight names into `model`.

    Position embeddings are interpolated to the model's image size.

    Raises:
        CheckpointError: The file cannot be read, or has other sizes or another architecture.
    """
    source = read_weights(Path(path))
    extra = [name for name in source if IGNORED_WEIGHTS.match(name)]
    source = _fit_positions(source, model.config.vision.num_tokens)
    names = [name for name in model.state_dict() if name.startswith("vision.")]
    if "norm.weight" not in source and "fc_norm.weight" in source:
        # fc_norm comes after pooling, so it cannot stand in for the norm of all tokens
        names = [name for name in names if not name.startswith("vision.norm.")]
    return _load(model, source, TIMM, names, extra, str(path))


def load_pretrained_text(model: VisionTextModel, path: str | Path) -> LoadReport:
    """Load a BERT into the text side of `model`.

    A file without an LM head leaves that of the model unchanged; that of a file is unused if the
    model has none. A vocabulary that lacks [DEC] and [ENC], the model's last two tokens, leaves
    their embeddings unchanged.

    Raises:
        CheckpointError: The file cannot be read, or has other sizes or another architecture.
    """
    source = {_modernize_name(name): tensor for name, tensor in read_weights(Path(path)).items()}
    extra = [name for name in source if IGNORED_WEIGHTS.match(name)]
    new_tokens = _append_new_tokens(source, model)
    not_in_bert = r"\.cross_attn\.|\.norm2\."
    has_head = any(name.startswith("cls.predictions.transform.") for name in source)
    if not has_head or model.text.lm_head is None:
        not_in_bert += r"|\.lm_head\."
        head_names = (name for name in source if name.startswith("cls.predictions."))
        extra += [name for name in head_names if name not in extra]
    names = [
        name
        for name in model.state_dict()
        if name.startswith("text.") and not re.search(not_in_bert, name)
    ]
    report = _load(model, source, BERT, names, extra, str(path))
    return replace(report, initialized=(*report.initialized, *new_tokens))


def _load(
    model: VisionTextModel,
    source: Mapping[str, Tensor],
    weight_format: WeightFormat,
    names: list[str],
    extra: Iterable[str],
    where: str,
) -> LoadReport:
    """Load the weights `names` of a part of the model, and ignore `extra`."""
    state = model.state_dict()
    shapes = {name: state[name].shape for name in names}
    extra = tuple(extra)
    expected = {name: tensor for name, tensor in source.items() if name not in extra}
    weights = import_weights(expected, weight_format, shapes, where)
    model.load_state_dict(weights, strict=False)
    prefix = names[0].partition(".")[0] + "."
    initialized = tuple(name for name in state if name.startswith(prefix) and name not in weights)
    return LoadReport(len(weights), initialized, extra)


def _fit_positions(source: Mapping[str, Tensor], num_tokens: int) -> dict[str, Tensor]:
    """Interpolate position embeddings to `num_tokens`, without DeiT's distillation token.

    Position embeddings that are not a square grid are left unchanged; `import_weights` rejects
    them.
    """
    positions = source.get("pos_embed")
    if positions is None or positions.dim() != 3:
        return dict(source)
    if "dist_token" in source:  # the second token
        positions = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
    patches = positions.shape[1] - 1
    if patches > 0 and math.isqrt(patches) ** 2 == patches:
        positions = interpolate_pos_embed(positions.float(), num_tokens)
    return {**source, "pos_embed": positions}


def _modernize_name(name: str) -> str:
    """Return the name of a weight in `BertForPreTraining` of current transformers."""
    name = re.sub(r"^(?=(embeddings|encoder|pooler)\.)", "bert.", name)
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def _append_new_tokens(source: dict[str, Tensor], model: VisionTextModel) -> tuple[str, ...]:
    """Append the model's [DEC] and [ENC] to weights without them; return what was appended."""
    embedding = model.text.token_embed.weight.detach().cpu()
    lm_head = model.text.lm_head
    bias = torch.zeros(len(embedding)) if lm_head is None else lm_head.bias.detach().cpu()
    word_embeddings = source.get(_WORD_EMBEDDINGS)
    if word_embeddings is None or len(word_embeddings) != len(embedding) - NUM_NEW_TOKENS:
        return ()
    for rows, names in (
        (embedding, (_WORD_EMBEDDINGS, "cls.predictions.decoder.weight")),
        (bias, ("cls.predictions.bias", "cls.predictions.decoder.bias")),
    ):
        for name in names:
            if name in source:
                source[name] = torch.cat([source[name].float(), rows[-NUM_NEW_TOKENS:]])
    return ("text.token_embed.weight of [DEC] and [ENC]",)
