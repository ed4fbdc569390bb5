"""`DemoResult`: the captions of the test scenes of one split, and whether they are correct."""

from collections import Counter
from dataclasses import dataclass

from cutline.demo.drawing import Scene
from cutline.demo.grammar import is_correct, judge_caption
from cutline.evaluation import Evaluation


@dataclass(frozen=True)
class DemoResult:
    """Captions of the test scenes of one split."""

    scenes: list[Scene]
    """the test scenes"""
    evaluation: Evaluation
    """their captions and scores"""

    @property
    def captions(self) -> list[str]:
        """Return the captions, in the order of the scenes."""
        return [image.caption.text for image in self.evaluation.images]

    @property
    def accuracy(self) -> float:
        """Return the fraction of captions in which every word is true of the scene."""
        return sum(map(is_correct, self.captions, self.scenes)) / len(self.scenes)

    @property
    def verdicts(self) -> list[str]:
        """Return why each caption is correct or wrong, as `judge_caption` says it."""
        return [*map(judge_caption, self.captions, self.scenes)]

    def count_mistakes(self) -> Counter[str]:
        """Return how many captions have each kind of mistake, such as "wrong color"."""
        wrong = (verdict for verdict in self.verdicts if not verdict.startswith("correct"))
        return Counter(verdict.partition(":")[0] for verdict in wrong)
