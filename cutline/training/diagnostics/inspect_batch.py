"""The first batch of a run, token by token: what is scored, and what it costs."""

import torch
from torch import Tensor
from torch.nn import functional as F

from cutline.config import Recipe
from cutline.errors import DataError
from cutline.image import normalize
from cutline.model import CaptionModel
from cutline.tokenizer import Tokenizer
from cutline.training.data.batch import Batch
from cutline.training.data.sampler import BatchSampler
from cutline.training.data.stream import read_batches
from cutline.training.setup import prepare_run


def show_first_batch(recipe: Recipe) -> str:
    """Every token of the first batch with its label, whether it is scored, and its loss, as text.

    A row reads: at this position the model, having read this token, must say the label, and pays the loss for it. The
    loss is the label-smoothed cross-entropy in evaluation mode.
    """
    prepared = prepare_run(recipe)
    order = BatchSampler(len(prepared.rows), recipe.optim.batch_size, recipe.seed)
    batches = read_batches(
        prepared.rows, order, 0, order.steps_per_epoch, prepared.tokenizer.pad_id, 0
    )
    batch = next((batch for batch in batches if len(batch.pixels) or batch.failure), None)
    if batch is not None and batch.failure:
        raise batch.failure
    if batch is None:
        raise DataError(f"{recipe.data.train}: none of its images can be read")
    losses = token_losses(prepared.model.eval(), batch)
    lines = [f"skipped: {sentence}\n" for sentence in batch.skipped]
    for row in range(len(batch.input_ids)):
        lines += [
            f"caption {row + 1}",
            f"  {'position':<10}{'reads':<16}{'must say':<16}{'loss':>8}",
            *format_tokens(batch, row, losses[row], prepared.tokenizer),
            "",
        ]
    total, count = float(losses.nansum()), batch.token_count
    lines.append(
        f"{count} scored tokens, summed loss {total:.4f}, mean {total / max(1, count):.4f}"
    )
    return "\n".join(lines) + "\n"


@torch.no_grad()
def token_losses(model: CaptionModel, batch: Batch) -> Tensor:
    """The loss of each label, (R, T - 1); NaN where none is scored."""
    pixel_values = normalize(batch.pixels, model.config.image)
    logits = model(
        pixel_values, batch.input_ids, batch.attention_mask, batch.labels, return_logits=True
    ).logits  # (R, T - 1, V)
    targets = batch.labels[:, 1:]
    losses = F.cross_entropy(
        logits.transpose(1, 2),
        targets,
        reduction="none",
        label_smoothing=model.config.label_smoothing,
    )
    return losses.masked_fill(targets == -100, torch.nan)


def format_tokens(batch: Batch, row: int, losses: Tensor, tokenizer: Tokenizer) -> list[str]:
    """One line per token of a row; padding is left out."""
    pieces = tokenizer.pieces(batch.input_ids[row, : int(batch.attention_mask[row].sum())].tolist())
    lines = []
    for position, (piece, following, loss) in enumerate(
        zip(pieces, pieces[1:], losses.tolist(), strict=False)
    ):
        scored = loss == loss  # not NaN
        lines.append(
            f"  {position:<10}{piece:<16}{following if scored else '(not scored)':<16}{f'{loss:8.4f}' if scored else '       -'}"
        )
    return lines
