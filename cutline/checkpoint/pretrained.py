"""Starting weights for training: a Vision Transformer's and a BERT's."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from cutline.checkpoint.names import TEXT, TEXT_COPIES, VISION, Layout
from cutline.checkpoint.storage import read_weights
from cutline.checkpoint.weights import import_weights
from cutline.model import CaptionModel, interpolate_positions

TIMM = Layout(VISION, copies={})
BERT = Layout(TEXT, TEXT_COPIES, ("bert.embeddings.position_ids",))
EXTRA = re.compile(
    r"(head|head_dist|pre_logits|fc_norm|dist_token|bert\.embeddings\.token_type_embeddings|bert\.pooler|cls\.seq_relationship)\b"
)
"""what such files hold beyond a captioner; anything else is another architecture, and an error"""
_WORDS = "bert.embeddings.word_embeddings.weight"
NEW_TOKENS = 2
"""[DEC] and [ENC], at the end of the vocabulary"""


@dataclass(frozen=True)
class LoadReport:
    """What a start brought and what it did not."""

    brought: int
    """weights of ours that it gave"""
    initialised: tuple[str, ...]
    """weights of ours, on that side of the model, that keep their fresh initialisation"""
    left: tuple[str, ...]
    """weights in the file that a captioner has no place for"""


def load_pretrained_vision(model: CaptionModel, path: str | Path) -> LoadReport:
    """Put a Vision Transformer's weights (timm or DeiT layout) into `model`, positions interpolated to its image size.

    Raises CheckpointError: the file cannot be read, or is a ViT of other sizes or another architecture.
    """
    theirs = read_weights(Path(path))
    extra = [name for name in theirs if EXTRA.match(name)]
    theirs = _fitted_positions(theirs, model.config.vision.num_tokens)
    absent = (
        ("norm.",) if "norm.weight" not in theirs and "fc_norm.weight" in theirs else ()
    )  # the norm after pooling is another one
    names = [
        name
        for name in model.state_dict()
        if name.startswith("vision.") and not name.removeprefix("vision.").startswith(absent)
    ]
    return _start(model, theirs, TIMM, "vision.", names, extra, str(path))


def load_pretrained_text(model: CaptionModel, path: str | Path) -> LoadReport:
    """Put a BERT's weights into the text side of `model`; without an LM head in the file, that one is not brought.

    A vocabulary that is two pieces short leaves [DEC] and [ENC], the last two, as they are.
    Raises CheckpointError: the file cannot be read, or is a BERT of other sizes or another architecture.
    """
    theirs = {_bert_name(name): tensor for name, tensor in read_weights(Path(path)).items()}
    extra = [name for name in theirs if EXTRA.match(name)]
    new = _append_new_tokens(theirs, model)
    head = any(name.startswith("cls.predictions.transform.") for name in theirs)
    fresh = re.compile(
        r"\.cross_attn\.|\.norm2\." if head else r"\.cross_attn\.|\.norm2\.|\.lm_head\."
    )
    names = [
        name for name in model.state_dict() if name.startswith("text.") and not fresh.search(name)
    ]
    if not head:
        extra += [
            name for name in theirs if name.startswith("cls.predictions.") and name not in extra
        ]
    report = _start(model, theirs, BERT, "text.", names, extra, str(path))
    return replace(report, initialised=(*report.initialised, *new)) if new else report


def _start(
    model: CaptionModel,
    theirs: Mapping[str, Tensor],
    layout: Layout,
    side: str,
    names: Iterable[str],
    extra: list[str],
    where: str,
) -> LoadReport:
    state = model.state_dict()
    known = {name: tensor for name, tensor in theirs.items() if name not in extra}
    ours = import_weights(known, layout, {name: state[name].shape for name in names}, where)
    model.load_state_dict(ours, strict=False)
    initialised = tuple(name for name in state if name.startswith(side) and name not in ours)
    return LoadReport(len(ours), initialised, tuple(extra))


def _fitted_positions(theirs: Mapping[str, Tensor], num_tokens: int) -> dict[str, Tensor]:
    """Positions without that of DeiT's distillation token, the second, and interpolated to `num_tokens`."""
    positions = theirs.get("pos_embed")
    if positions is None or positions.dim() != 3:
        return dict(theirs)
    if "dist_token" in theirs:
        positions = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
    patches = positions.shape[1] - 1
    if (
        patches > 0 and math.isqrt(patches) ** 2 == patches
    ):  # another number is mis-shaped, and said to be
        positions = interpolate_positions(positions.float(), num_tokens)
    return {**theirs, "pos_embed": positions}


def _bert_name(name: str) -> str:
    """The name in a BERT with all its heads, as BERT spells it today."""
    name = re.sub(r"^(?=(embeddings|encoder|pooler)\.)", "bert.", name)
    return re.sub(
        r"LayerNorm\.(gamma|beta)$",
        lambda old: "LayerNorm." + {"gamma": "weight", "beta": "bias"}[old[1]],
        name,
    )


def _append_new_tokens(theirs: dict[str, Tensor], model: CaptionModel) -> tuple[str, ...]:
    """Lengthen their vocabulary by our [DEC] and [ENC]; what then keeps its initialisation."""
    embedding, bias = (
        model.text.token_embed.weight.detach().cpu(),
        model.text.lm_head.bias.detach().cpu(),
    )
    words = theirs.get(_WORDS)
    if words is None or len(words) != len(embedding) - NEW_TOKENS:
        return ()
    for rows, names in (
        (embedding, (_WORDS, "cls.predictions.decoder.weight")),
        (bias, ("cls.predictions.bias", "cls.predictions.decoder.bias")),
    ):
        for name in names:
            if name in theirs:
                theirs[name] = torch.cat([theirs[name].float(), rows[-NEW_TOKENS:]])
    return ("text.token_embed.weight of [DEC] and [ENC]",)
