"""A table of the tokens of a batch, with their labels and losses."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cutline.image import normalize
from cutline.model import CaptionModel
from cutline.model.caption import IGNORE_INDEX
from cutline.tokenizer import Tokenizer
from cutline.training.data.caption_batch import CaptionBatch, count_scored

HEADER = f"  {'position':<10}{'input token':<16}{'label':<16}{'loss':>8}"


def format_token_losses(model: CaptionModel, batch: CaptionBatch, tokenizer: Tokenizer) -> str:
    """Return a table of the tokens of a batch, with their labels and losses.

    In each row, the label is the token that the model has to predict from the image and the tokens
    up to the input token. The loss is the label-smoothed cross-entropy.
    """
    losses = compute_token_losses(model, batch)
    lines = []
    for row in range(len(batch.input_ids)):
        tokens = _format_tokens(batch, row, losses[row], tokenizer)
        lines += [f"caption {row + 1}", HEADER, *tokens, ""]
    loss_sum, count = float(losses.nansum()), int(count_scored(batch.labels).sum())
    mean = loss_sum / max(1, count)
    lines.append(f"{count} scored tokens, summed loss {loss_sum:.4f}, mean {mean:.4f}")
    return "\n".join(lines) + "\n"


@torch.no_grad()
def compute_token_losses(model: CaptionModel, batch: CaptionBatch) -> Tensor:
    """Return the loss of each label, (R, T - 1); NaN where the label is not scored."""
    pixel_values = normalize(batch.pixels, model.config.image)
    inputs = (batch.input_ids, batch.attention_mask, batch.labels)
    # That of the base class: in training with a bag-of-words loss, a model returns no logits.
    result = CaptionModel.forward(model, pixel_values, *inputs, return_logits=True)
    logits = result.logits  # (R, T - 1, V)
    assert logits is not None
    labels = batch.labels[:, 1:]
    losses = F.cross_entropy(
        logits.transpose(1, 2),
        labels,
        reduction="none",
        label_smoothing=model.config.label_smoothing,
    )
    return losses.masked_fill(labels == IGNORE_INDEX, torch.nan)


def _format_tokens(
    batch: CaptionBatch, row: int, losses: Tensor, tokenizer: Tokenizer
) -> list[str]:
    """Return one line per token of a row, without padding."""
    length = int(batch.attention_mask[row].sum())
    tokens = tokenizer.convert_ids_to_tokens(batch.input_ids[row, :length].tolist())
    lines = []
    for position, loss in enumerate(losses[: length - 1].tolist()):
        label, value = tokens[position + 1], f"{loss:.4f}"
        if math.isnan(loss):
            label, value = "(not scored)", "-"
        lines.append(f"  {position:<10}{tokens[position]:<16}{label:<16}{value:>8}")
    return lines
