"""`--show-batch`: every token of the first batch, with its label and its loss."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cutline.config import Recipe
from cutline.errors import DataError
from cutline.image import normalize
from cutline.model import CaptionModel
from cutline.model.caption import IGNORE_INDEX
from cutline.tokenizer import Tokenizer
from cutline.training.data.batch import Batch, LoaderConfig
from cutline.training.data.sampler import BatchSampler
from cutline.training.data.stream import read_batches
from cutline.training.diagnostics.session import check_single_process
from cutline.training.setup import RunSetup, prepare_run

HEADER = f"  {'position':<10}{'input token':<16}{'label':<16}{'loss':>8}"


def inspect_first_batch(recipe: Recipe, allow_pipe: bool = False) -> str:
    """Return a table of the tokens of the first batch, with their labels and losses.

    In each row, the label is the token that the model has to predict from the image and the tokens
    up to the input token. The loss is the label-smoothed cross-entropy in evaluation mode.

    Args:
        recipe: Settings of the run.
        allow_pipe: As in `train`.

    Raises:
        CutlineError: The recipe, its data or its initial weights are invalid, or no image can be
            read.
    """
    check_single_process()
    setup = prepare_run(recipe, allow_pipe)
    batch = _read_first_batch(recipe, setup)
    losses = compute_token_losses(setup.model.eval(), batch)
    lines = [f"skipped: {message}\n" for message in batch.skipped]
    for row in range(len(batch.input_ids)):
        tokens = _format_tokens(batch, row, losses[row], setup.tokenizer)
        lines += [f"caption {row + 1}", HEADER, *tokens, ""]
    loss_sum, count = float(losses.nansum()), batch.token_count
    mean = loss_sum / max(1, count)
    lines.append(f"{count} scored tokens, summed loss {loss_sum:.4f}, mean {mean:.4f}")
    return "\n".join(lines) + "\n"


@torch.no_grad()
def compute_token_losses(model: CaptionModel, batch: Batch) -> Tensor:
    """Return the loss of each label, (R, T - 1); NaN where the label is not scored."""
    pixel_values = normalize(batch.pixels, model.config.image)
    inputs = (batch.input_ids, batch.attention_mask, batch.labels)
    logits = model(pixel_values, *inputs, return_logits=True).logits  # (R, T - 1, V)
    labels = batch.labels[:, 1:]
    losses = F.cross_entropy(
        logits.transpose(1, 2),
        labels,
        reduction="none",
        label_smoothing=model.config.label_smoothing,
    )
    return losses.masked_fill(labels == IGNORE_INDEX, torch.nan)


def _read_first_batch(recipe: Recipe, setup: RunSetup) -> Batch:
    """Return the first batch of the run that has a readable image."""
    sampler = BatchSampler(len(setup.dataset), recipe.optim.batch_size, recipe.seed)
    batches = read_batches(
        setup.dataset, sampler, 0, sampler.steps_per_epoch, LoaderConfig(setup.tokenizer.pad_id)
    )
    skipped: list[str] = []
    for batch in batches:
        if batch.error:
            raise batch.error
        if len(batch.pixels):
            return batch
        skipped += batch.skipped
    raise DataError(
        f"{recipe.data.train}: none of the images can be read; the first error: {skipped[0]}"
    )


def _format_tokens(batch: Batch, row: int, losses: Tensor, tokenizer: Tokenizer) -> list[str]:
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
