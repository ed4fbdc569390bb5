"""What a run would need and take, found out by its first step."""

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cutline.config import Recipe
from cutline.data import Sample
from cutline.device import peak_memory
from cutline.errors import CutlineError, DivergedError
from cutline.training.data.dataset import Encoded, encode_captions
from cutline.training.diagnostics.memory import (
    Counted,
    available_memory,
    count_bytes,
    disk_free,
    disk_needed,
    reset_peak,
)
from cutline.training.diagnostics.session import (
    make_trainer,
    require_one_process,
    samples_at_hand,
    take_step,
)
from cutline.training.setup import RunSetup, prepare_run

EMBEDDINGS = "the vision side was run in this step; with its embeddings kept, steps take less time, and less memory"
_ENDLESS = 1_000_000  # words and tokens that no caption has
_LESS_MEMORY = (
    "lower `optim.batch_size` (and raise `optim.grad_accum_steps`), set `memory.vit_grad_ckpt` and `memory.text_grad_ckpt`, "
    "or train fewer weights with `lora.rank`"
)


@dataclass(frozen=True)
class DryRun:
    """What `dry_run` found."""

    recipe: Recipe
    pictures: int
    captions: int
    val_pictures: int
    cut: int
    """captions that max_words or max_tokens shorten"""
    vocab_size: int
    steps_per_epoch: int
    total_steps: int
    weights: int
    """numbers in the model, with LoRA's"""
    learning: int
    """those of them that training changes"""
    loss: float
    """of the first step, per token, as the run's log would say"""
    seconds_per_step: float
    """of the second step on the first images, which are opened anew; the first step of all is slower"""
    where: str
    """device and precision"""
    counted: Counted
    memory_needed: int
    """bytes at the peak of a step: of tensors on a GPU, elsewhere of the whole process"""
    available_memory: int | None
    """bytes that the run can use; None where the operating system does not report it"""
    disk_needed: int
    """bytes of the run's files at their most"""
    disk_free: int
    missing: tuple[str, ...]
    """images that are not where the data say"""
    skipped: tuple[str, ...]
    """one sentence for each image of the first step that cannot be read"""
    holds_run: bool
    """whether `output` already holds a run, which training would refuse to write over"""

    @property
    def chance(self) -> float:
        """The loss per token of a model that finds all pieces equally likely: ln V."""
        return math.log(self.vocab_size)

    @property
    def hours(self) -> float:
        """Hours of all steps; evaluations come on top."""
        return self.total_steps * self.seconds_per_step / 3600

    @property
    def shortages(self) -> list[str]:
        """One sentence for each thing that there is too little of."""
        found = []
        if self.available_memory is not None and self.memory_needed > self.available_memory:
            found.append(too_little_memory(self.memory_needed, self.available_memory))
        if self.disk_needed > self.disk_free:
            need, free = size(self.disk_needed), size(self.disk_free)
            found.append(
                f"{self.recipe.output}: the run needs {need} of disk and {free} are free: make room, or choose another `output`"
            )
        return found

    @property
    def exit_code(self) -> int:
        """0 fine, 1 the run cannot go on here, 3 images would be skipped."""
        return 1 if self.shortages else 3 if self.missing or self.skipped else 0

    def __str__(self) -> str:
        counted, optim, data = self.counted, self.recipe.optim, self.recipe.data
        available = "unknown" if self.available_memory is None else size(self.available_memory)
        parts = {
            "weights": counted.weights,
            "gradients": counted.gradients,
            "moments": counted.moments,
            "average": counted.average,
        }
        parts["activations and the rest"] = max(0, self.memory_needed - counted.total)
        first = "the first " if data.stream else ""
        rows = [
            (
                "data",
                f"{first}{self.pictures:,} images with {self.captions:,} captions; {self.val_pictures:,} to validate on",
            ),
            (
                "",
                f"{self.cut / self.captions:.1%} of the captions are cut, by max_words {data.max_words} or max_tokens {data.max_tokens}",
            ),
            ("vocabulary", f"{self.vocab_size:,} pieces"),
            ("weights", f"{self.weights:,}, of which {self.learning:,} learn"),
            (
                "steps",
                f"{self.steps_per_epoch:,} an epoch, {self.total_steps:,} in all, {optim.batch_size * optim.grad_accum_steps} rows each",
            ),
            (
                "first loss",
                f"{self.loss:.3f} per token; pure chance pays ln({self.vocab_size:,}) = {self.chance:.3f}",
            ),
            (
                "time",
                f"{self.seconds_per_step:.3g} s a step on {self.where}: {span(self.hours)} for all, evaluations not counted",
            ),
            *([("", EMBEDDINGS)] if data.cache_embeddings else []),
            ("memory", f"{size(self.memory_needed)} needed, {available} available"),
            ("", ", ".join(f"{name} {size(count)}" for name, count in parts.items() if count)),
            (
                "disk",
                f"{size(self.disk_needed)} needed, {size(self.disk_free)} free for {self.recipe.output}",
            ),
        ]
        if self.holds_run:
            rows.append(
                (
                    "output",
                    f"{self.recipe.output} already holds a run: add --resume to go on with it, or choose another `output`",
                )
            )
        if self.missing:
            rows.append(
                (
                    "missing",
                    f"{len(self.missing):,} images are not where the data say; the first: {', '.join(self.missing[:3])}",
                )
            )
        rows += [("skipped", sentence) for sentence in self.skipped]
        return "".join(f"{name:<12}{text}\n" for name, text in rows)


def dry_run(recipe: Recipe) -> DryRun:
    """Do the first step of the run that `recipe` describes, twice, and say what the whole would need; nothing is written.

    The first step is the run's own: the same images, dropout and precision, and so the same loss. The second, on the same images,
    is timed, and its peak of memory measured: by then the optimiser's moments are there. Weights, gradients, moments and average are
    counted from the parameters.

    Raises:
        CutlineError: recipe, data or starting weights do not fit, no image of the first step can be read, the memory does not
            suffice, or the loss is not a number.
    """
    require_one_process()
    prepared = prepare_run(recipe)
    with friendly_errors():
        trainer = make_trainer(replace(recipe, data=replace(recipe.data, num_workers=0)), prepared)
        counted = count_bytes(trainer)
        # Checked first, because the operating system would kill the process without a message.
        available = available_memory(trainer.device)
        if available is not None and counted.total > available:
            raise CutlineError(too_little_memory(counted.total, available))
        begin = time.perf_counter()
        batches = next(trainer.steps())
        opened = time.perf_counter()
        loss = take_step(trainer, batches)
        reset_peak(trainer.device)
        second = time.perf_counter()
        take_step(trainer, batches)
        opening, computing = opened - begin, time.perf_counter() - second
    samples, workers = samples_at_hand(prepared, recipe), recipe.data.num_workers
    texts = encode_captions(samples, prepared.tokenizer, recipe.data, prepared.model.config.prompt)
    folder = Path(recipe.output)
    return DryRun(
        recipe=recipe,
        pictures=sum(map(bool, texts)),
        captions=sum(map(len, texts)),
        val_pictures=len(prepared.val),
        cut=count_cut(recipe, prepared, samples, texts),
        vocab_size=prepared.tokenizer.vocab_size,
        steps_per_epoch=trainer.steps_per_epoch,
        total_steps=trainer.total_steps,
        weights=sum(weight.numel() for weight in trainer.model.parameters()),
        learning=sum(
            weight.numel() for weight in trainer.model.parameters() if weight.requires_grad
        ),
        loss=loss,
        seconds_per_step=max(computing, opening / workers) if workers else computing + opening,
        where=f"{trainer.device} in {'bf16' if trainer.bf16 else 'fp32'}",
        counted=counted,
        memory_needed=max(counted.total, peak_memory(trainer.device)),
        available_memory=available_memory(trainer.device),
        disk_needed=disk_needed(trainer),
        disk_free=disk_free(folder),
        missing=missing_pictures([*prepared.train, *prepared.val]),
        skipped=tuple(sentence for batch in batches for sentence in batch.skipped),
        holds_run=(folder / "state.safetensors").exists(),
    )


@contextmanager
def friendly_errors() -> Iterator[None]:
    """What the first steps may run into becomes a CutlineError that names the way out."""
    try:
        yield
    except DivergedError:
        raise CutlineError(
            "the loss or its gradient is not a number in the first two steps: lower `optim.lr`, set `optim.warmup_steps`, "
            "or choose `precision: fp32`"
        ) from None
    except (
        RuntimeError
    ) as error:  # torch.OutOfMemoryError is one, and so is what the allocator of a CPU raises
        if not any(text in str(error) for text in ("out of memory", "can't allocate memory")):
            raise
        raise CutlineError(f"the memory does not suffice for a step: {_LESS_MEMORY}") from None


def too_little_memory(needed: int, there: int) -> str:
    """One sentence with the ways out."""
    return f"the run needs {size(needed)} of memory and there are {size(there)}: {_LESS_MEMORY}"


def count_cut(
    recipe: Recipe, prepared: RunSetup, samples: Sequence[Sample], texts: Sequence[list[Encoded]]
) -> int:
    """How many of the samples' captions are shortened in `texts`."""
    endless = replace(recipe.data, max_words=_ENDLESS, max_tokens=_ENDLESS)
    whole = encode_captions(samples, prepared.tokenizer, endless, prepared.model.config.prompt)
    return sum(
        one != other
        for kept, all_ in zip(texts, whole, strict=True)
        for one, other in zip(kept, all_, strict=True)
    )


def missing_pictures(samples: Sequence[Sample]) -> tuple[str, ...]:
    """The local paths among the images where there is no file, each once."""
    paths = dict.fromkeys(
        sample.image
        for sample in samples
        if isinstance(sample.image, str) and "://" not in sample.image
    )
    return tuple(
        path for path in paths if not os.path.isfile(path)
    )  # a Path is several times slower


def size(count: float) -> str:
    """Bytes for people: 1.2 GB."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def span(hours: float) -> str:
    """Hours for people: 3.4 hours, 12 minutes."""
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.2g} minutes"
