"""Errors that users can fix. Each message is one sentence that states the cause and the fix."""


class CutlineError(Exception):
    """Base class of errors that users can fix. The command line prints the message only.

    Attributes:
        index: In the results of `Captioner.stream`, the number of the image in the input.
    """

    index: int | None = None


class ImageError(CutlineError):
    """An image that cannot be read."""


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
        super().__init__(settings, name, problem)
        self.settings, self.name, self.problem = settings, name, problem

    def __str__(self) -> str:
        return f"{self.name} {self.problem}"


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
