"""The folder of a run, which is not overwritten."""

from pathlib import Path
from typing import Any

from cutline.config import Recipe, read_recipe, to_dict
from cutline.errors import ConfigError

FREE_TO_CHANGE = {
    "output",
    "log_every",
    "save_minutes",
    "device",
    "tensorboard",
    "data.num_workers",
    "data.cache_embeddings",
    "optim.lr",
    "optim.clip_norm",
}  # between a stop and its resume


def make_run_directory(recipe: Recipe, resume: bool) -> Path:
    """The run's folder: new, or that of a run to resume, which must have been trained by the same recipe."""
    folder = Path(recipe.output)
    if (folder / "state.safetensors").exists():
        if not resume:
            raise ConfigError(
                f"{folder} already holds a run: add --resume to go on with it, or choose another `output`"
            )
        dealt = (
            {"data.num_workers"} if recipe.data.stream else set()
        )  # the rows of a stream are dealt out to the workers
        for name, old, new in differences(
            to_dict(read_recipe(folder / "recipe.yaml")), to_dict(recipe)
        ):
            if name not in FREE_TO_CHANGE - dealt:
                raise ConfigError(
                    f"{folder} was trained with {name} = {old}, not {new}: resume with the same recipe, or choose another `output`"
                )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def differences(
    old: dict[str, Any], new: dict[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    """The settings that differ, as (dotted name, old value, new value)."""
    found = []
    for name, value in new.items():
        if isinstance(value, dict):
            found += differences(old.get(name, {}), value, f"{prefix}{name}.")
        elif old.get(name) != value:
            found.append((prefix + name, old.get(name), value))
    return found
