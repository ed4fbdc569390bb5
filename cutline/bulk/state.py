"""The folder that holds the state of a run: its lock, its settings, and what removes it."""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cutline.bulk.parts import PART_NAME, Parts
from cutline.bulk.record import Record
from cutline.errors import ConfigError, DataError
from cutline.files import remove_partial, write_text
from cutline.messages import format_value

VERSION = 1
LOCK_NAME, SETTINGS_NAME = "lock", "manifest.json"
_OTHER_NAME = re.compile(rf"lock|shards|images|{PART_NAME.pattern}|\..*\.tmp")


def lock_state(folder: Path) -> FileLock:
    """Lock a folder for this process.

    Raises:
        DataError: Another run uses it.
    """
    lock = FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DataError(
            f"{folder}: another run writes there; wait for it, or name another output"
        ) from None
    return lock


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents, and return those that did not exist, the innermost first."""
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return created


def remove_folders(created: Sequence[Path]) -> None:
    """Remove what `make_folders` returned, with all that a run which has not begun left there."""
    shutil.rmtree(created[0], ignore_errors=True)
    with suppress(OSError):  # other files are there
        for folder in created[1:]:
            folder.rmdir()


def has_state(folder: Path) -> bool:
    """Return whether a folder holds the state of a run."""
    return (folder / SETTINGS_NAME).is_file()


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Record the settings of a run, or compare them with those that are recorded.

    Args:
        folder: The folder.
        settings: What the captions depend on, by name, in types of JSON.

    Raises:
        ConfigError: The run there has other settings.
        DataError: The recorded settings cannot be read.
    """
    path = folder / SETTINGS_NAME
    remove_partial([path])
    text = json.dumps({"version": VERSION, **settings}, indent=1) + "\n"
    if not path.exists():
        write_text(path, text)
        return
    recorded, current = _read_settings(path), json.loads(text)
    differences = [
        f"{name} was {_describe(recorded, name)}, and is {_describe(current, name)}"
        for name in dict.fromkeys([*recorded, *current])
        if recorded.get(name) != current.get(name)
    ]
    if differences:
        raise ConfigError(
            f"{folder}: the run there has other settings ({'; '.join(differences)}); "
            "use the same settings, name another output, or start again with --new-run"
        )


def _read_settings(path: Path) -> dict[str, Any]:
    with suppress(ValueError):
        settings = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(settings, dict):
            return settings
    raise DataError(f"{path}: damaged; start again with --new-run")


def _describe(settings: Mapping[str, Any], name: str) -> str:
    if name not in settings:
        return "the default"
    return "not given" if settings[name] is None else format_value(settings[name])


def remove_state(folder: Path, forget: Callable[[Record], None]) -> None:
    """Remove the state of a run, if there is any; its folder stays.

    Args:
        folder: The folder.
        forget: Called with each record, to undo what was written for it.

    Raises:
        DataError: It holds other files than those of a state, or another run uses it.
    """
    if not folder.exists():
        return
    names = [path.name for path in folder.iterdir()]
    if not has_state(folder) and not all(map(_OTHER_NAME.fullmatch, names)):
        raise DataError(f"{folder}: not the state of a run; move it away, or name another output")
    lock = lock_state(folder)
    try:
        parts = Parts(folder)
        for number in parts.numbers:
            with suppress(ValueError, TypeError):  # damaged
                for record in parts.iter_part(number):
                    forget(record)
        # The settings last: without them, a folder is not believed to be the state of a run.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == SETTINGS_NAME):
            if path.name != LOCK_NAME:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        lock.release()
