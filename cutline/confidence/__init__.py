"""How sure a model is of the words of its captions."""

from cutline.confidence.calibration import (
    CALIBRATION_FILE,
    Calibration,
    load_calibration,
    read_calibration,
)
from cutline.confidence.words import (
    Word,
    combine_words,
    compute_word_probabilities,
    measure_words,
)

__all__ = [
    "CALIBRATION_FILE",
    "Calibration",
    "Word",
    "combine_words",
    "compute_word_probabilities",
    "load_calibration",
    "measure_words",
    "read_calibration",
]
