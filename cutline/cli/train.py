"""`cutline train`."""

import sys
from collections.abc import Callable
from typing import Annotated

from tyro.conf import Positional, arg

from cutline.cli.console import complain, program, stderr
from cutline.cli.flags import Flags
from cutline.config import Recipe, read_recipe
from cutline.errors import ConfigError


def train(recipe: Recipe, resume: bool, show_batch: bool) -> int:
    """Train as `recipe` says; see `train_command` for the flags."""
    import logging

    from rich.logging import RichHandler

    from cutline.training import read_log, show_first_batch
    from cutline.training import train as run

    logger = logging.getLogger("cutline")
    logger.addHandler(RichHandler(console=stderr(), show_time=False, show_path=False, show_level=False))
    logger.setLevel("INFO")
    if show_batch:
        sys.stdout.write(show_first_batch(recipe))
        return 0
    best = run(recipe, resume=resume)
    skipped = sum("skipped" in line for line in read_log(best.parent / "log.jsonl"))
    if skipped:
        complain(f"{skipped} pictures could not be read; {best.parent / 'log.jsonl'} names them")
    complain(f"the best checkpoint is in {best}; try: {program()} caption PHOTO --model {best}")
    return 3 if skipped else 0


def train_command(argv: list[str]) -> Callable[..., int]:
    """The `train` command, with the values of the recipe named in `argv` as defaults of its flags."""
    path = next((word for word in argv if word.endswith((".yaml", ".yml"))), "")
    defaults = read_recipe(path) if path else Recipe()

    def command(
        recipe: Positional[Annotated[str, arg(metavar="RECIPE.yaml")]],
        settings: Annotated[Recipe, Flags] = defaults,
        *,
        resume: bool = False,
        show_batch: bool = False,
    ) -> int:
        """Train a captioner. Every setting of the recipe is a flag too: --optim.lr 2e-5

        Args:
            recipe: a YAML file.
            resume: go on with the run that the recipe's `output` folder holds.
            show_batch: print every token of the first batch with its label and its loss, and stop.
        """
        if not path:
            raise ConfigError(f"{recipe}: a recipe is a .yaml file; there are examples in recipes/")
        return train(settings, resume, show_batch)

    return command
