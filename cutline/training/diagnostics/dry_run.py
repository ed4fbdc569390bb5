"""`--dry-run`: what a run needs, measured in its first step."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cutline.config import OptimConfig, Recipe
from cutline.data import Sample
from cutline.device import available_memory, peak_memory
from cutline.errors import CutlineError, DivergedError
from cutline.tokenizer import EncodedText
from cutline.training.data.batch import collect_skipped
from cutline.training.data.dataset import encode_captions
from cutline.training.diagnostics.dry_run_result import (
    HOW_TO_SAVE_MEMORY,
    DryRunResult,
    describe_memory_shortage,
)
from cutline.training.diagnostics.memory import (
    TensorMemory,
    count_tensor_memory,
    estimate_disk_usage,
    measure_free_disk,
    reset_peak_memory,
)
from cutline.training.diagnostics.session import (
    check_single_process,
    make_trainer,
    peek_samples,
    read_compared_loss,
    take_step,
)
from cutline.training.loop.trainer import Trainer
from cutline.training.run.directory import has_run
from cutline.training.setup import RunSetup, prepare_run

_NO_LIMIT = 1_000_000  # words and tokens; no caption is as long


def dry_run(recipe: Recipe, allow_pipe: bool = False) -> DryRunResult:
    """Take the first step of a run twice, and report what the whole run needs; write nothing.

    The first step has the images, dropout and precision of the run, and so its loss. The second
    step, on the same images, gives time and peak memory, because the optimizer state exists only
    after a step.

    Args:
        recipe: Settings of the run.
        allow_pipe: As in `train`.

    Raises:
        CutlineError: The recipe, its data or its initial weights are invalid, no image of the step
            can be read, there is too little memory, or the loss is NaN or infinite.
    """
    check_single_process()
    setup = prepare_run(recipe, allow_pipe)
    with friendly_errors(recipe.optim):
        trainer = make_trainer(replace(recipe, data=replace(recipe.data, num_workers=0)), setup)
        tensors = count_tensor_memory(trainer)
        _check_memory(trainer, tensors)
        loss, seconds, skipped = _measure_steps(trainer, recipe.data.num_workers)
    samples = peek_samples(setup, recipe)
    captions = _encode_captions(samples, setup, recipe)
    output = Path(recipe.output)
    params = list(trainer.model.parameters())
    return DryRunResult(
        recipe=recipe,
        num_images=sum(map(bool, captions)),
        num_captions=sum(map(len, captions)),
        num_truncated=_count_truncated(samples, captions, setup, recipe),
        num_val_images=len(setup.val_samples),
        vocab_size=setup.tokenizer.vocab_size,
        num_params=sum(weight.numel() for weight in params),
        num_trained_params=sum(weight.numel() for weight in params if weight.requires_grad),
        steps_per_epoch=trainer.steps_per_epoch,
        total_steps=trainer.total_steps,
        loss=loss,
        chance=setup.task.chance_loss(setup.tokenizer.vocab_size),
        unit=setup.task.unit,
        seconds_per_step=seconds,
        hardware=f"{trainer.device} in {'bf16' if trainer.bf16 else 'fp32'}",
        tensors=tensors,
        needed_memory=max(tensors.total, peak_memory(trainer.device)),
        available_memory=available_memory(trainer.device),
        needed_disk=estimate_disk_usage(trainer),
        free_disk=measure_free_disk(output),
        missing=tuple(_find_missing_images([*setup.train_samples, *setup.val_samples])),
        skipped=skipped,
        output_has_run=has_run(output),
    )


@contextmanager
def friendly_errors(optim: OptimConfig) -> Iterator[None]:
    """Turn out-of-memory errors and a NaN loss into a CutlineError that says what to change."""
    try:
        yield
    except DivergedError:
        raise CutlineError(
            "the loss or its gradient is NaN or infinite in the first two steps: lower "
            f"{optim.lr_names}, set `optim.warmup_steps`, or choose `precision: fp32`"
        ) from None
    except RuntimeError as error:  # on a GPU the subclass torch.OutOfMemoryError
        if not any(text in str(error) for text in ("out of memory", "can't allocate memory")):
            raise
        raise CutlineError(f"a step does not fit into memory: {HOW_TO_SAVE_MEMORY}") from None


def _check_memory(trainer: Trainer, tensors: TensorMemory) -> None:
    """Raise CutlineError if the tensors alone do not fit into memory.

    Without this check, the operating system would kill the process without a message.
    """
    available = available_memory(trainer.device)
    if available is not None and tensors.total > available:
        raise CutlineError(describe_memory_shortage(tensors.total, available))


def _measure_steps(trainer: Trainer, num_workers: int) -> tuple[float, float, tuple[str, ...]]:
    """Take the first step twice; return its loss, the seconds of a step, and what it skipped.

    The batches are opened in this process. The workers of the run open theirs while the model
    trains, so that the slower of the two counts.
    """
    start = time.perf_counter()
    batches = next(trainer.read_steps())
    loading_seconds = time.perf_counter() - start
    take_step(trainer, batches)
    loss = read_compared_loss(trainer)
    reset_peak_memory(trainer.device)
    start = time.perf_counter()
    take_step(trainer, batches)
    step_seconds = time.perf_counter() - start
    if num_workers:
        seconds = max(step_seconds, loading_seconds / num_workers)
    else:
        seconds = step_seconds + loading_seconds
    return loss, seconds, tuple(collect_skipped(batches))


def _encode_captions(
    samples: Sequence[Sample], setup: RunSetup, recipe: Recipe
) -> list[list[EncodedText]]:
    prompt = setup.task.default_prompt(setup.model.config)
    return encode_captions(samples, setup.tokenizer, recipe.data, prompt)


def _count_truncated(
    samples: Sequence[Sample], captions: list[list[EncodedText]], setup: RunSetup, recipe: Recipe
) -> int:
    """Return how many of the encoded `captions` differ from what they are without limits."""
    data = replace(recipe.data, max_words=_NO_LIMIT, max_tokens=_NO_LIMIT)
    unlimited = _encode_captions(samples, setup, replace(recipe, data=data))
    return sum(
        caption != full
        for captions_of_image, full_captions in zip(captions, unlimited, strict=True)
        for caption, full in zip(captions_of_image, full_captions, strict=True)
    )


def _find_missing_images(samples: Iterable[Sample]) -> Iterator[str]:
    """Yield the local image paths that do not exist, each once."""
    for path in dict.fromkeys(sample.local_path for sample in samples if sample.local_path):
        if not os.path.isfile(path):  # noqa: PTH113  # Path.is_file() is several times slower
            yield path
