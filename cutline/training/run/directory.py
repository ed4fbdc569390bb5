"""The directory of a run, which is reused only to resume that run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cutline.config import Recipe, read_recipe, to_dict
from cutline.errors import ConfigError

STATE_FILE = "state.safetensors"
LOG_FILE = "log.jsonl"
RECIPE_FILE = "recipe.yaml"
BEST, LAST = "best", "last"
"""folders of the best and the latest checkpoint"""
RUN_EXISTS = "already holds a run: add --resume to continue it, or choose another `output`"
"""an error, after the name of the directory"""
CHANGEABLE_ON_RESUME = frozenset(
    {
        "output",
        "log_every",
        "save_minutes",
        "device",
        "tensorboard",
        "data.num_workers",
        "data.cache_embeddings",
        "optim.lr",
        "optim.clip_norm",
    }
)
"""settings that may differ from those of the run that is resumed"""


def has_run(directory: Path) -> bool:
    """Return whether `directory` holds the state of a run."""
    return (directory / STATE_FILE).exists()


def make_run_directory(recipe: Recipe, resume: bool) -> Path:
    """Create the directory of a run, or check that the run in it can be resumed.

    Returns:
        The directory, `recipe.output`.

    Raises:
        ConfigError: The directory holds a run already, and `resume` is False or the recipe of that
            run differs from `recipe` in a setting that must not change.
    """
    directory = Path(recipe.output)
    if has_run(directory):
        if not resume:
            raise ConfigError(f"{directory} {RUN_EXISTS}")
        check_same_settings(directory, recipe)
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def check_same_settings(directory: Path, recipe: Recipe) -> None:
    """Raise ConfigError if `recipe` must not resume the run in `directory`."""
    changeable = CHANGEABLE_ON_RESUME
    if recipe.data.stream:  # every worker reads its own part of the shards
        changeable = changeable - {"data.num_workers"}
    old_recipe = read_recipe(directory / RECIPE_FILE)
    for name, old, new in list_differences(to_dict(old_recipe), to_dict(recipe)):
        if name not in changeable:
            raise ConfigError(
                f"{directory} was trained with {name} = {old}, not {new}: "
                "resume with the same recipe, or choose another `output`"
            )


def list_differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that differ, as (dotted name, old value, new value)."""
    for name, value in new.items():
        if isinstance(value, dict):
            yield from list_differences(old.get(name, {}), value, f"{prefix}{name}.")
        elif old.get(name) != value:
            yield prefix + name, old.get(name), value
