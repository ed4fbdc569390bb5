"""The directory of a run, which is reused only to resume that run, by one process at a time."""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cutline.checkpoint import NATIVE_FILES
from cutline.config import Recipe, read_recipe, to_dict
from cutline.distributed import is_main_process, run_on_main
from cutline.errors import ConfigError, blame_setting
from cutline.files import check_writable

STATE_FILE = "state.safetensors"
LOG_FILE = "log.jsonl"
RECIPE_FILE = "recipe.yaml"
INFO_FILE = "run.json"
REPORT_FILE = "report.html"
LOCK_FILE = ".lock"
BEST, LAST = "best", "last"
"""folders of the best and the latest checkpoint"""
NUM_SAMPLES = 16
"""validation images whose captions are logged, and whose copies are in the directory"""
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
        "optim.muon_lr",
        "optim.clip_norm",
        "eval.before_training",
    }
)
"""settings that may differ from those of the run that is resumed"""


def has_run(directory: Path) -> bool:
    """Return whether `directory` holds the state of a run."""
    return (directory / STATE_FILE).exists()


def sample_path(number: int) -> str:
    """Return the path of the copy of a validation image, within the directory."""
    return f"samples/{number}.jpg"


def list_run_files(directory: Path) -> list[Path]:
    """Return the files that a run writes, except for its lock and TensorBoard's."""
    checkpoints = [
        f"{folder}/{part}{name}"
        for folder in (BEST, LAST)
        for part in ("", "captioner/", "matcher/")  # pre-training has two models
        for name in NATIVE_FILES
    ]
    samples = [sample_path(number) for number in range(NUM_SAMPLES)]
    names = (STATE_FILE, LOG_FILE, RECIPE_FILE, INFO_FILE, REPORT_FILE, *checkpoints, *samples)
    return [directory / name for name in names]


@contextmanager
def lock_run_directory(recipe: Recipe) -> Iterator[Path]:
    """Create the directory of a run, and refuse all other runs in it until the block ends.

    Every process must call this; the main process holds the lock. A killed process loses it.

    Yields:
        The directory, `recipe.output`.

    Raises:
        ConfigError: Another run is in the directory.
        CutlineError: The directory cannot be written.
    """
    directory = Path(recipe.output)
    lock = FileLock(directory / LOCK_FILE, timeout=0)

    def acquire() -> None:
        with blame_setting("output", {"output": "output"}):
            check_writable(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise ConfigError(
                f"{directory}: another process is training in this directory: wait until it ends, "
                "or choose another `output`"
            ) from None
        except OSError as error:  # a file of that name, or a file system without locks
            raise ConfigError(
                f"{directory}: cannot be used as a run directory ({error.strerror}): "
                "choose another `output`"
            ) from None

    run_on_main(acquire)
    try:
        yield directory
    finally:
        if is_main_process():
            lock.release()


def check_run_directory(directory: Path, recipe: Recipe, resume: bool) -> None:
    """Check that a run can start in `directory`, or be resumed.

    Raises:
        ConfigError: The directory holds a run already, and `resume` is False or the recipe of that
            run differs from `recipe` in a setting that must not change.
    """
    if has_run(directory):
        if not resume:
            raise ConfigError(f"{directory} {RUN_EXISTS}")
        check_same_settings(directory, recipe)


def check_same_settings(directory: Path, recipe: Recipe) -> None:
    """Raise ConfigError if `recipe` must not resume the run in `directory`."""
    changeable = CHANGEABLE_ON_RESUME
    if recipe.data.stream:  # every worker reads its own part of the shards
        changeable = changeable - {"data.num_workers"}
    old_recipe = read_recipe(directory / RECIPE_FILE)
    for name, old, new in list_differences(to_dict(old_recipe), to_dict(recipe)):
        if name not in changeable:
            fix = "resume with the same recipe, or choose another `output`"
            if name in ("optim.epochs", "optim.max_steps") and (new > old or not new):
                fix = f"resume with the same recipe, or train further: {explain_new_run(recipe)}"
            raise ConfigError(f"{directory} was trained with {name} = {old}, not {new}: {fix}")


def explain_new_run(recipe: Recipe) -> str:
    """Return how to start a new run from the last checkpoint of that in the recipe's `output`."""
    kind = "matcher" if recipe.task == "match" else "captioner"
    output = next(path for n in count(2) if not (path := Path(f"{recipe.output}-{n}")).exists())
    flags = [f"--init.{kind}", str(Path(recipe.output, LAST)), "--output", str(output)]
    for name in ("captioner", "matcher", "config", "vision", "text"):
        if name != kind and getattr(recipe.init, name):  # which the last checkpoint replaces
            flags += [f"--init.{name}", ""]
    sizes = ", without the sizes in `model`" if recipe.model.sets_sizes else ""
    return f"start a new run from its last checkpoint{sizes}, with {shlex.join(flags)}"


def list_differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the settings that differ, as (dotted name, old value, new value)."""
    for name, value in new.items():
        if isinstance(value, dict):
            yield from list_differences(old.get(name, {}), value, f"{prefix}{name}.")
        elif old.get(name) != value:
            yield prefix + name, old.get(name), value
