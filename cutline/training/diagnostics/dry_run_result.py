"""The result of a dry run, and its text."""

from collections.abc import Iterator
from dataclasses import dataclass

from cutline.config import Recipe
from cutline.messages import format_hours
from cutline.training.diagnostics.memory import TensorMemory
from cutline.training.run.directory import RUN_EXISTS

HOW_TO_SAVE_MEMORY = (
    "lower `optim.batch_size` (and raise `optim.grad_accum_steps`), turn on "
    "`memory.text_grad_ckpt` and `memory.vit_grad_ckpt` (with `memory.vit_ckpt_layer`), or train "
    "fewer weights with `lora.rank`"
)


@dataclass(frozen=True)
class DryRunResult:
    """Result of a dry run."""

    recipe: Recipe
    num_images: int
    """training images that have captions; of a stream, those among its first samples"""
    num_captions: int
    """captions of these images"""
    num_truncated: int
    """captions that `max_words` or `max_tokens` truncates"""
    num_val_images: int
    vocab_size: int
    num_params: int
    """parameters of the model, including those of LoRA"""
    num_trained_params: int
    steps_per_epoch: int
    total_steps: int
    loss: float
    """loss per token, pair or caption of the first step, as in the log of the run; without the
    bag-of-words loss"""
    chance: tuple[str, float]
    """loss of a model that guesses: a formula, and its value"""
    unit: str
    """what the loss is averaged over: "token", "pair" or "caption" """
    seconds_per_step: float
    """time of the second step, which opens and trains on the images of the first"""
    hardware: str
    """device and precision"""
    tensors: TensorMemory
    needed_memory: int
    """peak bytes of a step: of the tensors on a GPU, of the whole process elsewhere"""
    available_memory: int | None
    """bytes that the run can use; None where the operating system does not report it"""
    needed_disk: int
    """peak bytes of the run's files"""
    free_disk: int
    missing: tuple[str, ...]
    """paths of images that do not exist"""
    skipped: tuple[str, ...]
    """one message for each image of the first step that cannot be read"""
    output_has_run: bool
    """whether `output` holds a run, which training would not overwrite"""

    @property
    def hours(self) -> float:
        """Return the hours of all steps, without evaluation."""
        return self.total_steps * self.seconds_per_step / 3600

    @property
    def shortages(self) -> list[str]:
        """Return one sentence for memory and disk each, if there is too little."""
        shortages = []
        if self.available_memory is not None and self.needed_memory > self.available_memory:
            shortages.append(describe_memory_shortage(self.needed_memory, self.available_memory))
        if self.needed_disk > self.free_disk:
            needed, free = format_bytes(self.needed_disk), format_bytes(self.free_disk)
            shortages.append(
                f"{self.recipe.output}: the run needs {needed} of disk space and {free} are free: "
                "free some, or choose another `output`"
            )
        return shortages

    @property
    def exit_code(self) -> int:
        """Return 0 if the run can start, 1 without enough memory or disk, 3 if it skips images."""
        return 1 if self.shortages else 3 if self.missing or self.skipped else 0

    def __str__(self) -> str:
        rows = [*self._format_task(), *self._format_resources(), *self._format_problems()]
        return "".join(f"{name:<12}{text}\n" for name, text in rows)

    def _format_task(self) -> Iterator[tuple[str, str]]:
        data, optim = self.recipe.data, self.recipe.optim
        scope = "first samples: " if data.stream else ""
        truncated = self.num_truncated / self.num_captions
        examples = optim.batch_size * optim.grad_accum_steps
        yield (
            "data",
            f"{scope}{self.num_images:,} images with {self.num_captions:,} captions; "
            f"{self.num_val_images:,} validation images",
        )
        yield (
            "",
            f"max_words {data.max_words} and max_tokens {data.max_tokens} truncate "
            f"{truncated:.1%} of the captions",
        )
        yield "vocabulary", f"{self.vocab_size:,} tokens"
        yield "parameters", f"{self.num_params:,}, of which {self.num_trained_params:,} are trained"
        yield (
            "steps",
            f"{self.steps_per_epoch:,} per epoch, {self.total_steps:,} in total, "
            f"{examples:,} examples each",
        )
        yield (
            "first loss",
            f"{self.loss:.3f} per {self.unit}; chance level is {self.chance[0]} = "
            f"{self.chance[1]:.3f}",
        )

    def _format_resources(self) -> Iterator[tuple[str, str]]:
        yield (
            "time",
            f"{self.seconds_per_step:.3g} s per step on {self.hardware}: "
            f"{format_hours(self.hours)} without evaluation",
        )
        if self.recipe.data.cache_embeddings:
            yield "", "measured without cached embeddings, which save time and memory"
        available = "unknown"
        if self.available_memory is not None:
            available = format_bytes(self.available_memory)
        yield "memory", f"{format_bytes(self.needed_memory)} needed, {available} available"
        parts = {
            **vars(self.tensors),
            "activations and other": max(0, self.needed_memory - self.tensors.total),
        }
        yield "", ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items() if size)
        needed, free = format_bytes(self.needed_disk), format_bytes(self.free_disk)
        yield "disk", f"{needed} needed, {free} free for {self.recipe.output}"

    def _format_problems(self) -> Iterator[tuple[str, str]]:
        if self.output_has_run:
            yield "output", f"{self.recipe.output} {RUN_EXISTS}"
        if self.missing:
            first = ", ".join(self.missing[:3])
            yield "missing", f"{len(self.missing):,} images do not exist; first: {first}"
        for message in self.skipped:
            yield "skipped", message


def describe_memory_shortage(needed: int, available: int) -> str:
    """Return an error message with ways to need less memory."""
    return (
        f"the run needs {format_bytes(needed)} of memory and {format_bytes(available)} are "
        f"available: {HOW_TO_SAVE_MEMORY}"
    )


def format_bytes(count: float) -> str:
    """Return a size such as "1.2 GB"."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
