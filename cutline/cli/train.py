"""`cutline train`."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Annotated

from tyro.conf import Positional, arg

from cutline.cli.console import print_message, print_result, program_name, stderr_console
from cutline.cli.flags import Flags, check_outputs
from cutline.config import Recipe, read_recipe
from cutline.config.validation import Settings
from cutline.errors import ConfigError
from cutline.progress import is_rank_zero


@dataclasses.dataclass(frozen=True)
class DiagnosticFlags(Settings):
    """Diagnostics, one at a time: each answers a question and leaves the run directory alone."""

    show_batch: bool = False
    """print every token of the first batch with its label and its loss (of a matcher: the texts,
    the positives of each image, and the losses), and exit"""
    dry_run: bool = False
    """run the first step and report what the run needs: data, loss, hours, memory, disk (exit code
    3: images are missing or unreadable; 1: the run does not fit)"""
    overfit: Annotated[int | None, arg(metavar="N")] = None
    """overfit the first N batches and caption them, or find the text of each image (exit code 1:
    the model cannot; check learning rate, prompt and captions)"""
    lr_range: Annotated[tuple[float, float] | None, arg(metavar="LOW HIGH")] = None
    """raise the learning rate from LOW to HIGH, such as 1e-6 1, over 100 steps: print the losses
    and plot them in OUTPUT-lr-range.html. Muon's rate rises in proportion"""

    def selected(self, resume: bool) -> str:
        """Return the name of the diagnostic that is set, or "".

        Raises:
            ConfigError: Several are set, or one together with --resume.
        """
        names = [
            name for name, value in vars(self).items() if value is not None and value is not False
        ]
        flags = [f"--{name.replace('_', '-')}" for name in [*names, *["resume"] * resume]]
        if len(flags) > 1:
            raise ConfigError(f"{' and '.join(flags)} cannot be combined: use one at a time")
        return names[0] if names else ""


def make_train_command(argv: list[str]) -> Callable[..., int]:
    """Return the `train` command; its flags default to the settings of the recipe in `argv`."""
    # Read before parsing, because the recipe gives the flags their defaults.
    path = next((word for word in argv if word.endswith((".yaml", ".yml"))), "")
    defaults = read_recipe(path) if path else Recipe()

    def train_command(
        recipe: Positional[Annotated[str, arg(metavar="RECIPE.yaml")]],
        settings: Annotated[Recipe, Flags] = defaults,
        *,
        resume: bool = False,
        allow_pipe: bool = False,
        diagnostics: Annotated[DiagnosticFlags, Flags] = DiagnosticFlags(),
    ) -> int:
        """Train a captioner or matcher from a recipe; every setting of the recipe is also a flag.

        Examples:
            cutline train recipes/own-photos.yaml --data.train photos --optim.lr 1e-4

            cutline train recipes/own-photos.yaml --data.train photos --dry-run

            torchrun --nproc-per-node 8 -m cutline train recipes/coco-base.yaml

        Args:
            recipe: YAML file.
            resume: Resume the run in the recipe's `output` directory; start a new one if it has no
                saved state.
            allow_pipe: Run the shell commands in `pipe:` addresses of the data, also when resuming;
                only for recipes that you trust.
        """
        if not path:
            raise ConfigError(f"{recipe}: a recipe is a .yaml file; see recipes/ for examples")
        show_log_messages()
        if name := diagnostics.selected(resume):
            return run_diagnostic(settings, diagnostics, name, allow_pipe)
        return train_recipe(settings, resume, allow_pipe)

    return train_command


def show_log_messages() -> None:
    """Print the log messages of cutline to stderr."""
    from rich.logging import RichHandler

    logger = logging.getLogger("cutline")
    logger.addHandler(
        RichHandler(console=stderr_console(), show_time=False, show_path=False, show_level=False)
    )
    logger.setLevel("INFO")


def train_recipe(recipe: Recipe, resume: bool, allow_pipe: bool) -> int:
    """Train, and return the exit code."""
    from cutline.training import read_log, train

    best = train(recipe, resume=resume, allow_pipe=allow_pipe)
    if not is_rank_zero():
        return 0
    log = best.parent / "log.jsonl"
    num_skipped = sum("skipped" in line for line in read_log(log))
    if num_skipped:
        print_message(f"{num_skipped} images could not be read; {log} lists them")
    command = f"{program_name()} caption IMAGE --model {best}"
    if recipe.task == "match":
        command = f"{program_name()} filter DATA --matcher {best} -o KEPT"
    elif recipe.task == "pretrain":
        command = f"{command} --num-beams 5 --num-captions 5 --rerank itm --matcher {best}"
    print_message(f"the best checkpoint is in {best}; try: {command}")
    return 3 if num_skipped else 0


def run_diagnostic(recipe: Recipe, flags: DiagnosticFlags, name: str, allow_pipe: bool) -> int:
    """Run the diagnostic `name`, a field of `flags`, and return the exit code."""
    from cutline import training

    if name == "show_batch":
        print_result(training.inspect_first_batch(recipe, allow_pipe))
        return 0
    if name == "dry_run":
        dry_run = training.dry_run(recipe, allow_pipe)
        print_result(str(dry_run))
        for message in dry_run.shortages:
            print_message(message)
        return dry_run.exit_code
    if name == "overfit":
        overfit = training.overfit(recipe, flags.overfit or 0, allow_pipe=allow_pipe)
        print_result(str(overfit))
        return overfit.exit_code
    return run_lr_finder(recipe, *(flags.lr_range or (0.0, 0.0)), allow_pipe)


def run_lr_finder(recipe: Recipe, low: float, high: float, allow_pipe: bool) -> int:
    """Run the learning-rate range test: print its table, write its report."""
    from cutline.training import (
        describe_lr_test,
        lr_report_path,
        run_lr_range_test,
        write_lr_report,
    )

    path = lr_report_path(recipe)
    check_outputs(str(path))
    result = run_lr_range_test(recipe, low, high, allow_pipe=allow_pipe)
    print_result(str(result))
    write_lr_report(path, result, describe_lr_test(recipe, result), recipe.optim.lr)
    print_message(f"{result.suggestion}; {path} shows the curve")
    return 3 if result.skipped else 0
