"""The scores of an evaluation as lines of text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cutline.evaluation import Evaluation


def format_evaluation(evaluation: "Evaluation") -> list[str]:
    """Return a line per score, and a table of the scores by domain."""
    intervals = {
        name: f"  [{low:.4f}, {high:.4f}]" for name, (low, high) in evaluation.intervals.items()
    }
    lines = [
        f"{name:<14}{format_score(value)}{intervals.get(name, '')}"
        for name, value in evaluation.scores.to_dict().items()
    ]
    lines += [
        f"{name:<14}{format_score(value)}" for name, value in evaluation.diversity.to_dict().items()
    ]
    if evaluation.domains:
        columns = {**evaluation.domains, "all": evaluation.scores}
        lines += ["", " " * 14 + "".join(f"{name:>14}" for name in columns)]
        for name in evaluation.scores.to_dict():
            values = (scores.to_dict()[name] for scores in columns.values())
            lines.append(f"{name:<14}" + "".join(f"{format_score(value):>14}" for value in values))
    return lines


def format_score(value: object) -> str:
    """Return a score with four decimals, and a count as it is."""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
