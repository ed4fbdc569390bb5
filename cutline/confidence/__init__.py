"""How sure a model is of the words of its captions."""

from cutline.confidence.calibration import (
    CALIBRATION_FILE,
    Calibration,
    load_calibration,
    read_calibration,
)
from cutline.confidence.words import Word, measure_words, sum_log_probs

__all__ = [
    "CALIBRATION_FILE",
    "Calibration",
    "Word",
    "load_calibration",
    "measure_words",
    "read_calibration",
    "sum_log_probs",
]
