"""Which learning rates learn: the range test of Smith, 2017 (arXiv 1506.01186)."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cutline.config import Recipe
from cutline.errors import ConfigError, CutlineError, DivergedError
from cutline.report import render_curve, render_key_figures, render_paragraph, write_report
from cutline.training.diagnostics.session import make_trainer, require_one_process, take_step
from cutline.training.run.log import RunLog
from cutline.training.setup import prepare_run

STEPS = 100
LEAST_STEPS = 10
MEMORY = 0.98  # of the running mean, as in fastai
EXPLODED = 4.0  # times the best smoothed loss, as in fastai


@dataclass(frozen=True)
class LrRange:
    """What `lr_range` found, step by step; one step at least."""

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    """per token"""
    exploded: bool = False
    """whether the test ended because the loss did"""
    skipped: tuple[str, ...] = ()
    """one sentence for each image that could not be read, as often as it came"""

    @property
    def smoothed(self) -> list[float]:
        """The losses' running mean, corrected for its short memory at the start."""
        means, mean = [], 0.0
        for step, loss in enumerate(self.losses, start=1):
            mean = MEMORY * mean + (1 - MEMORY) * loss
            means.append(mean / (1 - MEMORY**step))
        return means

    @property
    def steepest(self) -> float | None:
        """The learning rate at which the smoothed loss falls fastest against ln(lr); None if it never falls.

        The first tenth of the steps is left out: there the mean is of few losses.
        """
        first = len(self.lrs) // LEAST_STEPS
        smoothed = self.smoothed[first:]
        if (
            min(smoothed) > (1 - 1e-6) * smoothed[0]
        ):  # numbers that are all the same differ by rounding
            return None
        return self.lrs[first + int(np.gradient(smoothed, np.log(self.lrs[first:])).argmin())]

    @property
    def tenth(self) -> float | None:
        """A tenth of the learning rate of the lowest smoothed loss; None if it never falls."""
        return self.lrs[int(np.argmin(self.smoothed))] / 10 if self.steepest else None

    @property
    def suggestion(self) -> str:
        """One sentence."""
        if self.steepest is None or self.tenth is None:
            return f"the loss does not fall between lr {self.lrs[0]:g} and {self.lrs[-1]:g}: try lower ones"
        end = (
            f"; it explodes at {self.lrs[-1]:.2g}"
            if self.exploded
            else "; it does not explode: higher ones may do as well"
        )
        return f"the loss falls fastest at lr {self.steepest:.2g}, and a tenth of where it is lowest is {self.tenth:.2g}{end}"

    def __str__(self) -> str:
        return "".join(
            f"{lr:.3e}\t{loss:.4f}\n" for lr, loss in zip(self.lrs, self.losses, strict=True)
        )


def lr_range(
    recipe: Recipe, low: float, high: float, steps: int = STEPS, show_progress: bool = True
) -> LrRange:
    """Train while the learning rate rises exponentially from `low` to `high`, and record the loss; no weights are kept.

    Ends early when the smoothed loss is above 4 times its best, or is no number. A peak `optim.lr` between `steepest` and `tenth` of
    what is returned is a good start. Everything else is as the recipe says, but for its schedule and averaging.

    Raises:
        ConfigError: `low` and `high` are no range, or `steps` are below 10.
        CutlineError: recipe, data or starting weights do not fit, no image of a step can be read, or the first loss is no number.
    """
    require_one_process()
    if not 0 < low < high < math.inf:
        raise ConfigError(
            f"lr-range {low:g} {high:g}: give a low learning rate above 0 and a higher one, such as 1e-6 1"
        )
    if steps < LEAST_STEPS:
        raise ConfigError(f"{steps} steps are too few to see a curve: give at least {LEAST_STEPS}")
    recipe = replace(recipe, optim=replace(recipe.optim, max_steps=steps, ema_decay=0.0))
    trainer = make_trainer(recipe, prepare_run(recipe))
    found = LrRange((), ())
    with RunLog(None, None, 0, steps, show_progress) as log:
        for step, batches in enumerate(trainer.steps()):
            log.skip(
                step + 1, skipped := [sentence for batch in batches for sentence in batch.skipped]
            )
            found = replace(found, skipped=(*found.skipped, *skipped))
            lr = low * (high / low) ** (step / (steps - 1))
            try:
                loss = take_step(trainer, batches, lr)
            except DivergedError:
                if not found.lrs:
                    raise CutlineError(
                        f"the loss is not a number at lr {low:g}, before anything was learned: see --dry-run"
                    ) from None
                return replace(found, exploded=True)
            found = replace(found, lrs=(*found.lrs, lr), losses=(*found.losses, loss))
            log.advance(
                step + 1,
                sum(len(batch.pixels) for batch in batches),
                sum(batch.token_count for batch in batches),
            )
            log.train_line({"loss": loss})
            if found.smoothed[-1] > EXPLODED * min(found.smoothed):
                return replace(found, exploded=True)
    return found


def lr_report_path(recipe: Recipe) -> Path:
    """Where the report of a range test goes: beside the run's folder, never into it."""
    output = Path(recipe.output)
    return output.with_name(f"{output.name}-lr-range.html")


def write_lr_report(path: Path, found: LrRange) -> None:
    """Write the curve and the suggestion as an HTML page."""
    smoothed = found.smoothed
    highest = EXPLODED * min(smoothed)  # what lies above would flatten all below
    points = [(lr, min(loss, highest)) for lr, loss in zip(found.lrs, smoothed, strict=True)]
    numbers = [("fastest fall", found.steepest), ("a tenth of the lowest", found.tenth)]
    sections = [
        (
            "Suggestion",
            render_key_figures([(f"{lr:.2g}", name) for name, lr in numbers if lr])
            + render_paragraph(f"{found.suggestion.capitalize()}."),
        ),
        (
            "Loss",
            render_curve(
                points, "Smoothed training loss", "learning rate", "loss per token", log_x=True
            ),
        ),
    ]
    write_report(
        path,
        "Learning rate range test",
        "A short training whose learning rate rises at every step.",
        sections,
    )
