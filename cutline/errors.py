"""Errors that users can fix. Each message is one sentence that states the cause and the fix."""


class CutlineError(Exception):
    """Base class of errors that users can fix. The command line prints the message only."""


class ImageError(CutlineError):
    """An image that cannot be read."""


class DataError(CutlineError):
    """A dataset that cannot be read."""


class CheckpointError(CutlineError):
    """Weights, sizes or a vocabulary that cannot be read or do not fit together."""


class ConfigError(CutlineError):
    """An invalid setting."""


class DivergedError(CutlineError):
    """A training loss that became NaN or infinite."""
