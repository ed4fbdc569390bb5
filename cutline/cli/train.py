"""`cutline train`."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Annotated

from tyro.conf import Positional, arg

from cutline.cli.console import is_main_process, program, stderr, warn
from cutline.cli.flags import Flags
from cutline.config import Recipe, read_recipe
from cutline.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class DiagnosticFlags:
    """Rehearsals, one at a time: they answer a question and leave the run's folder alone."""

    show_batch: bool = False
    """print every token of the first batch with its label and its loss, and stop"""
    dry_run: bool = False
    """do the first step and say what the run needs: data, loss, hours, memory, disk; exit code 3: images missing, 1: does not fit"""
    overfit: Annotated[int | None, arg(metavar="N")] = None
    """learn the first N batches by heart and caption them; exit code 1: cannot, so learning rate, prompt or captions are wrong"""
    lr_range: Annotated[tuple[float, float] | None, arg(metavar="LOW HIGH")] = None
    """raise the learning rate from LOW to HIGH (1e-6 1, say) over 100 steps: which ones learn, as a table and in OUTPUT-lr-range.html"""

    def chosen(self, resume: bool) -> str:
        """The name of the field that is set, or "". Raises ConfigError if several are, or one beside --resume."""
        names = [
            name for name, value in vars(self).items() if value is not None and value is not False
        ]
        flags = [f"--{name.replace('_', '-')}" for name in [*names, *["resume"] * resume]]
        if len(flags) > 1:
            raise ConfigError(f"{' and '.join(flags)} do not go together: choose one")
        return names[0] if names else ""


def train(recipe: Recipe, resume: bool, instead: DiagnosticFlags) -> int:
    """Train as `recipe` says, or run_diagnostic it; see `train_command` for the flags."""
    rehearsal = instead.chosen(resume)
    import logging

    from rich.logging import RichHandler

    from cutline.training import read_log
    from cutline.training import train as run

    logger = logging.getLogger("cutline")
    logger.addHandler(
        RichHandler(console=stderr(), show_time=False, show_path=False, show_level=False)
    )
    logger.setLevel("INFO")
    if rehearsal:
        return run_diagnostic(recipe, instead, rehearsal)
    best = run(recipe, resume=resume)
    if not is_main_process():
        return 0
    skipped = sum("skipped" in line for line in read_log(best.parent / "log.jsonl"))
    if skipped:
        warn(f"{skipped} images could not be read; {best.parent / 'log.jsonl'} names them")
    warn(f"the best checkpoint is in {best}; try: {program()} caption PHOTO --model {best}")
    return 3 if skipped else 0


def run_diagnostic(recipe: Recipe, instead: DiagnosticFlags, name: str) -> int:
    """Do what the field `name` of `instead` asks for."""
    from cutline import training

    if name == "show_batch":
        sys.stdout.write(training.show_first_batch(recipe))
        return 0
    if name == "dry_run":
        found = training.dry_run(recipe)
        sys.stdout.write(str(found))
        for sentence in found.shortages:
            warn(sentence)
        return found.exit_code
    if name == "overfit":
        learned = training.overfit(recipe, instead.overfit or 0)
        sys.stdout.write(str(learned))
        return learned.exit_code
    return run_lr_finder(recipe, *(instead.lr_range or (0.0, 0.0)))


def run_lr_finder(recipe: Recipe, low: float, high: float) -> int:
    """The range test, with its table, its suggestion and its page."""
    from cutline.training import lr_range, lr_report_path, write_lr_report

    found = lr_range(recipe, low, high)
    sys.stdout.write(str(found))
    path = lr_report_path(recipe)
    write_lr_report(path, found)
    warn(f"{found.suggestion}; {path} shows the curve")
    return 3 if found.skipped else 0


def train_command(argv: list[str]) -> Callable[..., int]:
    """The `train` command, with the values of the recipe named in `argv` as defaults of its flags."""
    path = next((word for word in argv if word.endswith((".yaml", ".yml"))), "")
    defaults = read_recipe(path) if path else Recipe()

    def command(
        recipe: Positional[Annotated[str, arg(metavar="RECIPE.yaml")]],
        settings: Annotated[Recipe, Flags] = defaults,
        *,
        resume: bool = False,
        instead: Annotated[DiagnosticFlags, Flags] = DiagnosticFlags(),
    ) -> int:
        """Train a captioner. Every setting of the recipe is a flag too: --optim.lr 2e-5

        Args:
            recipe: a YAML file.
            resume: go on with the run that the recipe's `output` folder holds.
        """
        if not path:
            raise ConfigError(f"{recipe}: a recipe is a .yaml file; there are examples in recipes/")
        return train(settings, resume, instead)

    return command
