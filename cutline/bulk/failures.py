"""The failures of a run as findings of a report: counted by kind, with what to do."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from cutline.bulk.record import Failure
from cutline.messages import count_noun
from cutline.report import Problem, Problems

MAX_LISTED = 500
"""failures of a kind that a report lists"""
_RETRY = "The same command with `--retry-failed` tries them again."


class _Kind(NamedTuple):
    singular: str
    plural: str
    what: str
    advice: str


_KINDS = {
    "image": _Kind(
        "image", "images", "cannot be read", f"Replace the files, or remove them. {_RETRY}"
    ),
    "data": _Kind(
        "part of the data",
        "parts of the data",
        "cannot be used",
        "Correct these rows or files; the same command then reads them.",
    ),
    "prompt": _Kind("prompt", "prompts", "cannot be used", f"Correct the data. {_RETRY}"),
    "caption": _Kind(
        "image",
        "images",
        "got no result from the model",
        f"If these are many, its weights may be damaged. {_RETRY}",
    ),
    "output": _Kind(
        "result",
        "results",
        "cannot be written",
        "Check disk space and permissions; the same command then writes them.",
    ),
}


def make_failure_problems(failures: Iterable[Failure]) -> Problems:
    """Return the failures by kind, the most frequent first, with the first few of each."""
    counts = Counter[str]()
    rows: dict[str, list[tuple[str, str]]] = {}
    for failure in failures:
        counts[failure.kind] += 1
        listed = rows.setdefault(failure.kind, [])
        if len(listed) < MAX_LISTED:
            listed.append(_split_reason(failure))
    return Problems(
        [_make_problem(_KINDS[kind], count, rows[kind]) for kind, count in counts.most_common()]
    )


def _make_problem(kind: _Kind, count: int, rows: list[tuple[str, str]]) -> Problem:
    title = f"{count_noun(count, kind.singular, kind.plural)} {kind.what}"
    return Problem("error", title, kind.advice, sorted(rows), num_rows=count)


def _split_reason(failure: Failure) -> tuple[str, str]:
    """Return where something failed, and why; a reason begins with its place, as a rule."""
    place, _, reason = failure.reason.partition(": ")
    return (place, reason) if place.endswith(failure.id) else (failure.id, failure.reason)
