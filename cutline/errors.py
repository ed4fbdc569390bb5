"""What cutline says when it cannot go on: one sentence that names the thing and the way out."""


class CutlineError(Exception):
    """Base of every error that is the user's to mend; the command line prints its text and nothing else."""


class ImageError(CutlineError):
    """An image that cannot be read."""


class DataError(CutlineError):
    """A data set that cannot be read."""


class CheckpointError(CutlineError):
    """Weights, sizes or a vocabulary that do not fit."""


class ConfigError(CutlineError):
    """A setting that makes no sense."""


class DivergedError(CutlineError):
    """A training loss that is no longer a number."""
