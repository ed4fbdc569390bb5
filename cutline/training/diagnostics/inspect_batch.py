"""`--show-batch`: what the model reads in the first batch, and its loss."""

from cutline.config import Recipe
from cutline.errors import DataError
from cutline.training.data.batch import Batch
from cutline.training.data.sampler import BatchSampler
from cutline.training.data.stream import read_batches
from cutline.training.diagnostics.session import check_single_process
from cutline.training.setup import RunSetup, prepare_run


def inspect_first_batch(recipe: Recipe, allow_pipe: bool = False) -> str:
    """Return the texts of the first batch, and its loss in evaluation mode.

    For a captioner it is a table: in each row, the label is the token that the model has to predict
    from the image and the tokens up to the input token, with its label-smoothed cross-entropy. For
    a matcher it is the text of each pair, with the other pairs that are positives, too.

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
    skipped = "".join(f"skipped: {message}\n" for message in batch.skipped)
    return skipped + setup.task.describe_batch(setup.model.eval(), batch, setup.tokenizer)


def _read_first_batch(recipe: Recipe, setup: RunSetup) -> Batch:
    """Return the first batch of the run that has a readable image."""
    sampler = BatchSampler(len(setup.dataset), recipe.optim.batch_size, recipe.seed)
    batches = read_batches(
        setup.dataset, sampler, 0, sampler.steps_per_epoch, setup.loader_config()
    )
    skipped: list[str] = []
    for batch in batches:
        if batch.error:
            raise batch.error
        if len(batch.pixels):
            return batch
        skipped += batch.skipped
    raise DataError(
        f"data.train: {recipe.data.train}: none of the images can be read; "
        f"the first error: {skipped[0]}"
    )
