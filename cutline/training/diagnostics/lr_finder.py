"""`--lr-range`: the learning-rate range test (Smith, 2017, arXiv 1506.01186)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cutline.config import Recipe
from cutline.errors import ConfigError, CutlineError, DivergedError
from cutline.training.data.batch import Batch, collect_skipped
from cutline.training.diagnostics.session import check_single_process, make_trainer, take_step
from cutline.training.loop.trainer import Trainer
from cutline.training.run.log import RunLog
from cutline.training.setup import prepare_run

NUM_STEPS = 100
MIN_STEPS = 10
SMOOTHING = 0.98  # decay of the running mean of the loss, as in fastai
DIVERGENCE_RATIO = 4.0  # smoothed loss / lowest smoothed loss that ends the test, as in fastai


@dataclass(frozen=True)
class LrRangeResult:
    """Result of a learning-rate range test, with at least one step."""

    lrs: tuple[float, ...]
    """learning rate of each step"""
    losses: tuple[float, ...]
    """loss per token, pair or caption of each step"""
    diverged: bool = False
    """whether the test ended early because the loss diverged"""
    skipped: tuple[str, ...] = ()
    """one message for each image that could not be read, repeated if the image was"""
    unit: str = "token"
    """what the losses are averaged over: "token", "pair" or "caption" """
    muon_ratio: float = 0.0
    """`optim.muon_lr` / `optim.lr`, which the test keeps; 0 without Muon"""

    @property
    def smoothed(self) -> list[float]:
        """Return the running mean of the losses, corrected for its initial bias towards zero."""
        means, mean = [], 0.0
        for step, loss in enumerate(self.losses, start=1):
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            means.append(mean / (1 - SMOOTHING**step))
        return means

    @property
    def steepest(self) -> float | None:
        """Return the learning rate at which the smoothed loss falls fastest; None if it never does.

        The slope is with respect to ln(lr). The first tenth of the steps is left out, because the
        running mean covers too few losses there.
        """
        first = len(self.lrs) // 10
        smoothed = self.smoothed[first:]
        if min(smoothed) > smoothed[0] - 1e-6 * abs(smoothed[0]):  # 1e-6: rounding is not a fall
            return None
        return self.lrs[first + int(np.gradient(smoothed, np.log(self.lrs[first:])).argmin())]

    @property
    def tenth_of_minimum(self) -> float | None:
        """Return a tenth of the lr with the lowest smoothed loss; None if the loss never falls."""
        return self.lrs[int(np.argmin(self.smoothed))] / 10 if self.steepest else None

    @property
    def suggestion(self) -> str:
        """Return one sentence on which learning rates to try."""
        low, high = self.lrs[0], self.lrs[-1]
        if self.steepest is None or self.tenth_of_minimum is None:
            return f"the loss does not fall between lr {low:g} and {high:g}: try lower ones"
        end = "it does not diverge, so higher ones may work, too"
        if self.diverged:
            end = f"it diverges at {high:.2g}"
        return (
            f"the loss falls fastest at lr {self._format(self.steepest)}, and a tenth of the lr "
            f"with the lowest loss is {self._format(self.tenth_of_minimum)}; {end}"
        )

    def _format(self, lr: float) -> str:
        """Return a learning rate, with that of Muon beside it."""
        muon = f" (muon_lr {lr * self.muon_ratio:.2g})" if self.muon_ratio else ""
        return f"{lr:.2g}{muon}"

    def __str__(self) -> str:
        pairs = zip(self.lrs, self.losses, strict=True)
        return "".join(f"{lr:.3e}\t{loss:.4f}\n" for lr, loss in pairs)


def run_lr_range_test(
    recipe: Recipe,
    low: float,
    high: float,
    steps: int = NUM_STEPS,
    show_progress: bool = True,
    allow_pipe: bool = False,
) -> LrRangeResult:
    """Train while the learning rate rises exponentially, and record the loss of every step.

    The test ends early if the smoothed loss exceeds 4 times its minimum, or if the loss is NaN or
    infinite. Except for the schedule and the moving average of the weights, everything is as in
    the recipe. No weights are saved. A good first choice of `optim.lr` is between `steepest` and
    `tenth_of_minimum` of the result. With Muon, `optim.muon_lr` rises in proportion, and so is to
    be set in proportion.

    Args:
        recipe: Settings of the run.
        low: Learning rate of the first step.
        high: Learning rate of the last step.
        steps: Number of steps, at least 10.
        show_progress: Whether to show a progress bar on stderr.
        allow_pipe: As in `train`.

    Raises:
        ConfigError: `low` is not above 0 or not below `high`, or there are too few steps.
        CutlineError: The recipe, its data or its initial weights are invalid, no image of a step
            can be read, or the first loss is NaN or infinite.
    """
    check_single_process()
    _check_range(low, high, steps)
    recipe = replace(recipe, optim=replace(recipe.optim, max_steps=steps, ema_decay=0.0))
    setup = prepare_run(recipe, allow_pipe)
    trainer = make_trainer(recipe, setup)
    optim = recipe.optim
    muon_ratio = optim.muon_lr / optim.lr if optim.optimizer == "muon" else 0.0
    lrs = [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]
    result = LrRangeResult((), (), unit=setup.task.unit, muon_ratio=muon_ratio)
    with RunLog(None, None, 0, steps, show_progress) as log:
        for lr, batches in zip(lrs, trainer.read_steps(), strict=False):
            result = _record_step(trainer, batches, lr, result, log)
            if result.diverged:
                break
    return result


def _check_range(low: float, high: float, steps: int) -> None:
    if not 0 < low < high < math.inf:
        raise ConfigError(
            f"lr-range {low:g} {high:g} is not a range: "
            "give a learning rate above 0 and a higher one, such as 1e-6 1"
        )
    if steps < MIN_STEPS:
        raise ConfigError(f"{steps} steps are too few for a curve: give at least {MIN_STEPS}")


def _record_step(
    trainer: Trainer, batches: list[Batch], lr: float, result: LrRangeResult, log: RunLog
) -> LrRangeResult:
    """Take a step, and return `result` with that step added."""
    step = len(result.lrs) + 1
    skipped = collect_skipped(batches)
    log.log_skipped(step, skipped)
    result = replace(result, skipped=(*result.skipped, *skipped))
    try:
        loss = take_step(trainer, batches, lr)
    except DivergedError:
        if not result.lrs:
            raise CutlineError(
                f"the first loss, at lr {lr:g}, is NaN or infinite: "
                "choose `precision: fp32`, and check the data with --show-batch"
            ) from None
        return replace(result, diverged=True)
    log.advance(
        step, sum(len(batch.pixels) for batch in batches), sum(b.num_targets for b in batches)
    )
    log.log_training({"loss": loss})
    result = replace(result, lrs=(*result.lrs, lr), losses=(*result.losses, loss))
    return replace(result, diverged=_has_diverged(result.smoothed))


def _has_diverged(smoothed: Sequence[float]) -> bool:
    """Return whether a loss is far above its minimum."""
    return smoothed[-1] > divergence_limit(smoothed)


def divergence_limit(smoothed: Sequence[float]) -> float:
    """Return the smoothed loss above which it has diverged; with rewards, losses are negative."""
    lowest = min(smoothed)
    return lowest + (DIVERGENCE_RATIO - 1) * abs(lowest)
