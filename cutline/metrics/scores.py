"""`Scores`, what all metrics together say."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Scores:
    """Scores of a corpus, or of one image in it; CIDEr is out of 10, the others out of 1."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    rouge_l: float
    cider: float
    num_pictures: int
    meteor: float | None = None
    """of English, where it was asked for"""
    spice: float | None = None
    """of English, where it was asked for"""

    def numbers(self) -> dict[str, float | int]:
        """The scores by name, without those that were not asked for, the number of images last."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        pictures = values.pop("num_pictures")
        return {**values, "num_pictures": pictures}
