"""What a reader of an evaluation should know before the scores."""

from collections import Counter
from collections.abc import Sequence

from cutline.evaluation.evaluation import EvaluatedImage, Evaluation
from cutline.messages import count_noun
from cutline.report import Problem

MAX_ROWS = 200
"""messages and captions that a finding lists"""
EMPTY, REPEATED = "empty caption", "repeated caption"
"""tags of images"""


def list_evaluation_problems(evaluation: Evaluation) -> list[Problem]:
    """Return findings: what was not measured, empty captions, captions of several images."""
    problems = [
        make_message_problem(
            f"{count_noun(len(evaluation.skipped), 'image is', 'images are')} not measured",
            "They cannot be read, or have no caption. The scores are those of the others.",
            evaluation.skipped,
        ),
        make_message_problem(
            f"{count_noun(len(evaluation.left_out), 'caption is', 'captions are')} not measured",
            "Each is of an image without references, or a second one of its image. Make paths, "
            "file names or ids agree.",
            evaluation.left_out,
        ),
    ]
    return [*filter(None, problems), *_list_caption_problems(evaluation.images)]


def make_message_problem(title: str, advice: str, messages: Sequence[str]) -> Problem | None:
    """Return a finding that lists messages, or None if there are none."""
    rows = [("", message) for message in messages[:MAX_ROWS]]
    return Problem("warning", title, advice, rows, num_rows=len(messages)) if rows else None


def count_captions(images: Sequence[EvaluatedImage]) -> Counter[str]:
    """Return how many images have each caption."""
    return Counter(image.caption.text.strip() for image in images)


def _list_caption_problems(images: Sequence[EvaluatedImage]) -> list[Problem]:
    problems = []
    counts = count_captions(images)
    if num_empty := counts.pop("", 0):
        title = count_noun(num_empty, "caption has no words", "captions have no words")
        problems.append(Problem("warning", title, "They are measured as they are.", tag=EMPTY))
    return problems
