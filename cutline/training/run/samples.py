"""Galleries of the validation images that a run captions at every evaluation."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from cutline.report import Card, Gallery, Line
from cutline.training.run.history import LoggedEvaluation, RunHistory
from cutline.training.run.log import LogLine

SHOWN_REFERENCES = 2
"""references below an image; when it is enlarged, it has all of them"""


def show_course(run: RunHistory) -> Gallery | None:
    """Return a gallery with captions from before training, of the best checkpoint and the last one.

    Returns:
        None if no image has been captioned.
    """
    moments = {
        name: {sample["image"]: sample for sample in evaluation.samples}
        for name, evaluation in _name_moments(run).items()
    }
    if not moments:
        return None
    last = list(moments.values())[-1]
    cards = [
        _make_card(
            run,
            sample,
            _merge_lines(
                (name, samples[image]["caption"])
                for name, samples in moments.items()
                if image in samples
            ),
        )
        for image, sample in last.items()
    ]
    return Gallery(cards, num_references=SHOWN_REFERENCES)


def _name_moments(run: RunHistory) -> dict[str, LoggedEvaluation]:
    """Return the first evaluation with captions, the best and the last, by what they are called."""
    captioned = [each for each in run.evaluations if each.samples]
    if not captioned:
        return {}
    first, last = captioned[0], captioned[-1]
    moments = {}
    for evaluation in captioned:
        names = [evaluation.moment] * (evaluation in (first, last))
        if evaluation is run.best:
            names = [evaluation.moment, "best"]
        if evaluation is last and evaluation is not first:
            names.append("last")
        if names:
            moments[", ".join(names)] = evaluation
    return moments


def compare_samples(runs: Mapping[str, RunHistory]) -> Gallery | None:
    """Return a gallery of the images that several runs share, with the caption of each run.

    The captions are those of each run's best checkpoint.

    Args:
        runs: The runs by their names.

    Returns:
        None if they share no image.
    """
    shared: dict[object, dict[str, LogLine]] = {}
    for name, run in runs.items():
        for sample in _find_best_samples(run):
            shared.setdefault(_identify(run, sample), {})[name] = sample
    cards = []
    for samples in shared.values():
        if len(samples) > 1:
            name, sample = next(iter(samples.items()))
            lines = _merge_lines((name, sample["caption"]) for name, sample in samples.items())
            cards.append(_make_card(runs[name], sample, lines))
    return Gallery(cards, num_references=SHOWN_REFERENCES) if cards else None


def _find_best_samples(run: RunHistory) -> list[LogLine]:
    """Return the samples of the best evaluation, or of the last one that has any."""
    captioned = [each for each in run.evaluations if each.samples]
    if run.best and run.best.samples:
        return list(run.best.samples)
    return list(captioned[-1].samples) if captioned else []


def _identify(run: RunHistory, sample: LogLine) -> object:
    """Return what is equal for the same image in the directories of two runs."""
    if references := sample.get("references"):
        return (sample["id"], *references)
    copy = _find_copy(run, sample)
    return (sample["id"], hashlib.sha256(copy.read_bytes()).digest() if copy.exists() else None)


def _find_copy(run: RunHistory, sample: LogLine) -> Path:
    return run.directory / str(sample["image"])


def _make_card(run: RunHistory, sample: LogLine, lines: list[Line]) -> Card:
    copy = str(_find_copy(run, sample))
    return Card(copy, lines, str(sample["id"]), copy, sample.get("references", ()))


def _merge_lines(captions: Iterable[tuple[str, str]]) -> list[Line]:
    """Return a line for each distinct caption, with the names of all that it is of."""
    names: dict[str, list[str]] = {}
    for name, caption in captions:
        names.setdefault(caption, []).append(name)
    return [Line(caption, " · ".join(each)) for caption, each in names.items()]
