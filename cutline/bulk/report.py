"""HTML report of a run: images with their captions, lengths, scores and failures."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple
from itertools import islice
from pathlib import Path

from cutline.bulk.manifest import Manifest
from cutline.bulk.random_samples import RandomSamples
from cutline.bulk.run import CaptionRun
from cutline.errors import ImageError
from cutline.image import open_thumbnail
from cutline.report import (
    THUMBNAIL_SIZE,
    Card,
    render_gallery,
    render_histogram,
    render_key_figures,
    render_table,
    write_report,
)

NUM_IMAGES = 48
MAX_FAILURES = 200
SCORES_PER_UNIT = 20


def write_collection_report(path: str | Path, run: CaptionRun, samples: RandomSamples) -> None:
    """Write an HTML report of all captions of a manifest.

    Args:
        path: The HTML file.
        run: The run.
        samples: Images to show.
    """
    counts, lengths = run.counts, Counter[int]()
    scores, confidences, matches = Counter[int](), Counter[int](), Counter[int]()
    for record in run.manifest.iter_records(seen_only=run.complete):
        if not record.kind:
            lengths[len(record.row["caption"].split())] += 1
            scores[round(record.row["score"] * SCORES_PER_UNIT)] += 1
            confidences[round(record.row.get("confidence", 0.0) * SCORES_PER_UNIT)] += 1
            if "match" in record.row:
                matches[round(record.row["match"] * SCORES_PER_UNIT)] += 1
    figures = [
        (f"{lengths.total():,}", "captions"),
        (f"{counts.captioned:,}", "of this run"),
        (f"{counts.all_failed:,}", "failed"),
    ]
    unit = 1 / SCORES_PER_UNIT
    sections = [
        ("Result", render_key_figures(figures)),
        ("Captions", render_gallery(list(_make_cards(run.manifest, samples)))),
        ("Lengths", render_histogram(lengths, "Words of a caption", "words", "captions")),
        ("Scores", render_histogram(scores, "Score of a caption", "score", "captions", unit)),
    ]
    chart = render_histogram(confidences, "Confidence of a caption", "confidence", "captions", unit)
    sections.append(("Confidence", chart))
    if matches:
        title = "Match probabilities"
        chart = render_histogram(matches, f"{title} of captions", "match", "captions", unit)
        sections.append((title, chart))
    sections += render_failures(run)
    intro = "Images chosen at random, with their captions; how long and how likely captions are."
    write_report(path, "Captions", intro, sections)


def render_failures(run: CaptionRun) -> list[tuple[str, str]]:
    """Return the section of failures; none if there are no failures."""
    failures = [astuple(failure) for failure in islice(run.iter_failures(), MAX_FAILURES)]
    table = render_table(failures, ("id", "kind", "reason"))
    return [("Failures", table)] if failures else []


def _make_cards(manifest: Manifest, samples: RandomSamples) -> Iterator[Card]:
    for sample in samples:
        record = manifest.find_record(sample.id)
        if record is None or record.kind:
            continue
        try:
            image = open_thumbnail(sample.image, THUMBNAIL_SIZE)
        except ImageError:  # removed since it was captioned
            continue
        yield Card(image, record.row["caption"], f"{record.row['score']:.2f} · {sample.id}")
