"""Settings of `calibrate`: how images are divided."""

from dataclasses import dataclass

from cutline.config.pattern import require_simple_pattern
from cutline.config.validation import Settings, require_at_least


@dataclass(frozen=True)
class CalibrationConfig(Settings):
    """Calibration: which images it is fitted on; the other half tests it."""

    group_pattern: str = ""
    """regular expression for image paths: images with the same capture groups, or without any the
    same match, form a group, all of which is in one half. Near copies always are"""
    split_seed: int = 0
    """seed of the division into halves"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_simple_pattern(self, "group_pattern")
        require_at_least(self, 0, "split_seed")
