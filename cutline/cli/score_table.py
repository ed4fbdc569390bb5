"""The scores of an evaluation as lines of text."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cutline.evaluation import Evaluation


def format_evaluation(evaluation: "Evaluation") -> list[str]:
    """Return a line per score, and a table of the scores by domain."""
    from cutline.evaluation import make_domain_table

    intervals = {
        name: f"  [{low:.4f}, {high:.4f}]" for name, (low, high) in evaluation.intervals.items()
    }
    lines = [
        f"{name:<14}{format_number(value)}{intervals.get(name, '')}"
        for name, value in evaluation.scores.to_dict().items()
    ]
    lines += [
        f"{name:<14}{format_number(value)}"
        for name, value in evaluation.diversity.to_dict().items()
    ]
    if evaluation.domains:
        rows, header = make_domain_table(evaluation)
        lines += ["", f"{header[0]:<14}" + "".join(f"{cell:>14}" for cell in header[1:])]
        lines += [
            f"{row[0]:<14}" + "".join(f"{format_number(value):>14}" for value in row[1:])
            for row in rows
        ]
    return lines


def format_number(value: object) -> str:
    """Return a score with four decimals, and a count as it is."""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
