"""What all processes agree on before each step: counts, errors, and requests to stop or save."""

from dataclasses import dataclass

from cutline.distributed import all_gather, all_reduce_sum, is_main_process
from cutline.errors import CutlineError
from cutline.training.data.batch import Batch, collect_skipped


@dataclass(frozen=True)
class StepTotals:
    """What the batches of a step hold, and what is requested, over all processes."""

    targets: int
    """scored tokens, or pairs, over which the loss is averaged"""
    images: int
    skipped: list[str]
    """a message for each image that cannot be read"""
    stop: bool
    """whether to stop before this step"""
    save: bool
    """whether to save the state before this step"""


def sync_totals(
    batches: list[Batch], stop: bool = False, save: bool = False, error: CutlineError | None = None
) -> StepTotals:
    """Add up the batches and the requests of all processes, so that all do the same.

    Args:
        batches: This process's batches of the step.
        stop: Whether this process was asked to stop; one is enough.
        save: Whether it is time to save the state; only the main process's clock counts.
        error: An error of this process alone.

    Raises:
        CutlineError: A process has an error, or its data cannot be read; raised in all of them.
    """
    errors = [found for found in (error, *(batch.error for batch in batches)) if found]
    skipped = collect_skipped(batches)
    targets, images, num_skipped, stop_votes, save_votes, num_errors = all_reduce_sum(
        sum(batch.num_targets for batch in batches),
        sum(len(batch.pixels) for batch in batches),
        len(skipped),
        stop,
        save and is_main_process(),
        len(errors),
    )
    if num_errors:
        raise next(error for share in all_gather(errors) for error in share)
    if num_skipped:
        skipped = [message for share in all_gather(skipped) for message in share]
    return StepTotals(int(targets), int(images), skipped, stop_votes > 0, save_votes > 0)
