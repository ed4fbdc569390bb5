"""What a report is of: model, data, settings, command, version and date."""

import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cutline.web import hide_credentials

MAX_ARGUMENTS = 60
"""arguments of a command that are shown; a pattern such as *.jpg becomes thousands of them"""
MAX_SOURCES = 3
"""paths that the name of data contains"""


def read_command() -> str:
    """Return the command that runs this process, without passwords in addresses."""
    return format_command(sys.argv or [""])


def format_command(words: Sequence[str]) -> str:
    """Return a command without passwords in addresses; "" for the cells of a notebook."""
    path, *arguments = words
    program = Path(path).name
    if program == "__main__.py":  # of `python -m cutline`
        program = Path(path).parent.name
    if program in ("ipykernel_launcher.py", "colab_kernel_launcher.py"):
        return ""  # a notebook, whose cells are not in the command
    omitted = len(arguments) - MAX_ARGUMENTS
    shown = [shlex.quote(hide_credentials(argument)) for argument in arguments]
    if omitted > 0:  # flags are before or after them
        half = MAX_ARGUMENTS // 2
        shown[half : half + omitted] = [f"… ({omitted:,} more) …"]
    return " ".join([shlex.quote(program), *shown])


def describe_sources(paths: Sequence[str]) -> str:
    """Return what data of several paths is called: the paths, or the first of many."""
    shown, omitted = paths[:MAX_SOURCES], len(paths) - MAX_SOURCES
    parts = [*map(hide_credentials, shown), *([f"{omitted:,} more"] if omitted > 0 else [])]
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def read_date() -> datetime:
    """Return the date and time in the time zone of this machine."""
    return datetime.now().astimezone()


@dataclass(frozen=True)
class About:
    """What a report is of; shown at its top."""

    data: str = ""
    """path or address of the data"""
    model: str = ""
    """name of the captioner or matcher"""
    others: Mapping[str, str] = field(default_factory=dict)
    """further facts by name, such as the machine of a run"""
    settings: Mapping[str, object] = field(default_factory=dict)
    """settings by name; see `flatten_settings`"""
    command: str = field(default_factory=read_command)
    date: datetime = field(default_factory=read_date)
    version: str = field(default_factory=lambda: version("cutline"))
    changed: Collection[str] = ()
    """settings that differ from their defaults, which come first"""

    @property
    def facts(self) -> dict[str, str]:
        """Return all but the settings and the command, by the name that is shown."""
        facts = {"Data": self.data, "Model": self.model, **self.others}
        facts = {name: hide_credentials(value) for name, value in facts.items()}
        facts["Date"] = f"{self.date:%Y-%m-%d %H:%M %Z}".strip()
        facts["Version"] = f"cutline {self.version}"
        return {name: value for name, value in facts.items() if value}

    @property
    def shown_settings(self) -> dict[str, str]:
        """Return the settings as they are shown, those that differ from their defaults first."""
        names = sorted(self.settings, key=lambda name: name not in self.changed)
        return {name: format_setting(self.settings[name]) for name in names}


def format_setting(value: object) -> str:
    """Return the value of a setting, without passwords in addresses; "–" if it is empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(format_setting, value)) or "–"
    return hide_credentials(str(value)) if value not in (None, "") else "–"


def flatten_settings(settings: Any) -> dict[str, object]:
    """Return the settings of a dataclass or a mapping by dotted name, such as `optim.lr`."""
    return dict(_iter_settings(settings, ""))


def _iter_settings(settings: Any, prefix: str) -> Iterator[tuple[str, object]]:
    items = settings.items() if isinstance(settings, Mapping) else _list_fields(settings)
    for name, value in items:
        if isinstance(value, Mapping) or is_dataclass(value):
            yield from _iter_settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _list_fields(settings: Any) -> list[tuple[str, object]]:
    return [(setting.name, getattr(settings, setting.name)) for setting in fields(settings)]
