"""Errors that users can fix. Each message is one sentence that states the cause and the fix."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import NamedTuple

NO_NAMES: Mapping[str, str] = MappingProxyType({})


class SettingName(NamedTuple):
    """A setting in the message of an error: recipes and commands have different names for it."""

    key: str
    """by which callers know it"""
    text: str
    """what it is called unless the caller has a name of its own"""


class CutlineError(Exception):
    """Base class of errors that users can fix. The command line prints the message only.

    The message consists of the arguments: texts, and `SettingName`s between them.

    Attributes:
        index: In the results of `Captioner.stream`, the number of the image in the input.
        setting: Key of the setting that is wrong; "" if it is not known.
        names: The caller's names of settings, by key; see `blame_setting`.
    """

    index: int | None = None
    setting: str = ""
    names: Mapping[str, str] = NO_NAMES

    def __init__(self, *parts: str | SettingName) -> None:
        super().__init__(*parts)
        self.parts = parts

    def __str__(self) -> str:
        message = "".join(map(self._format, self.parts))
        keys = [part.key for part in self.parts if isinstance(part, SettingName)]
        starts_with_name = bool(keys) and isinstance(self.parts[0], SettingName)
        if self.setting in self.names and self.setting not in keys and not starts_with_name:
            return f"{self.names[self.setting]}: {message}"
        return message

    def _format(self, part: str | SettingName) -> str:
        if not isinstance(part, SettingName):
            return str(part)
        return f"`{self.names[part.key]}`" if part.key in self.names else part.text


@contextmanager
def blame_setting(key: str, names: Mapping[str, str] = NO_NAMES) -> Iterator[None]:
    """Let the errors of a block name the setting that is wrong, as its user calls it.

    The message begins with the name of the wrong setting, unless it has that name elsewhere, or
    begins with that of another setting. In nested blocks, the innermost key counts.

    Args:
        key: The setting that is wrong, unless a block inside knows better.
        names: The caller's names of settings, by key, such as `init.tokenizer` in a recipe.
    """
    try:
        yield
    except CutlineError as error:
        error.setting = error.setting or key
        error.names = {**names, **error.names}
        raise


class ImageError(CutlineError):
    """An image that cannot be read."""


class ImageFormatError(ImageError):
    """A file that is no image, or one of a format that is not read."""


class ImageSizeError(ImageError):
    """An image of more pixels than are allowed."""


class DataError(CutlineError):
    """A dataset that cannot be read."""


class CheckpointError(CutlineError):
    """Weights, sizes or a vocabulary that cannot be read or do not fit together."""


class ConfigError(CutlineError):
    """An invalid setting."""


class SettingError(ConfigError):
    """An invalid value of one setting.

    Attributes:
        settings: The settings dataclass, if it is one of its fields.
        name: Name of the setting, without the sections of a recipe that it is in.
        problem: What is wrong with its value; the message is the name and the problem.
    """

    def __init__(self, settings: type | None, name: str, problem: str) -> None:
        super().__init__(SettingName(name, name), f" {problem}")
        self.args = (settings, name, problem)  # from which it is made again in another process
        self.settings, self.name, self.problem = settings, name, problem


class DivergedError(CutlineError):
    """A training loss that became NaN or infinite."""


class GenerationError(CutlineError):
    """An image that cannot be captioned."""


class QueueFullError(CutlineError):
    """A request that comes while too many others wait."""


class RequestCancelledError(CutlineError):
    """A request that was cancelled."""


class DeadlineExceededError(CutlineError):
    """A request that was not done within its deadline."""


class SchedulerClosedError(CutlineError):
    """A request to a scheduler that has been closed, or whose model failed."""


class WorkerError(CutlineError):
    """Processes that cannot be started, or that die whatever they do."""
