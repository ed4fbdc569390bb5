"""Caption a data set and measure the captions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack, cast

from cutline.captioner import Caption, Captioner
from cutline.config import Columns, DataSource, ExtraMetric, GenerationKwargs, MetricTokenizer
from cutline.data import Sample, open_data
from cutline.distributed import gather_results, is_main_process, rank, world_size
from cutline.errors import DataError, ImageError
from cutline.image import ImageSource, open_thumbnail
from cutline.metrics import (
    CorpusStats,
    Diversity,
    Interval,
    Scores,
    bootstrap,
    check_extra_metrics,
    check_resamples,
    choose_tokenizer,
    collect_stats,
    measure_diversity,
)
from cutline.report import (
    THUMBNAIL_SIZE,
    Card,
    render_gallery,
    render_paragraph,
    render_table,
    write_report,
)

Result = Caption | ImageError
Wrap = Callable[[Iterator[Result], int], Iterable[Result]]


@dataclass(frozen=True)
class EvaluatedImage:
    """One image of an evaluation."""

    sample: Sample
    caption: Caption
    scores: Scores


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found."""

    scores: Scores
    """BLEU-1..4, ROUGE-L and CIDEr of the whole set, and METEOR and SPICE where they were asked for"""
    pictures: list[EvaluatedImage]
    """each image's caption and scores, in the order of the data"""
    skipped: list[str]
    """one sentence for each image that could not be read; these are not measured"""
    diversity: Diversity
    """how varied the captions are"""
    domains: dict[str, Scores]
    """scores by domain, where images have one: in-domain, near-domain and out-domain of nocaps"""
    intervals: dict[str, Interval]
    """95 % of each score of the whole set, where a bootstrap was asked for"""

    def numbers(self) -> dict[str, Any]:
        """All but the images, as JSON has it."""
        return {
            "scores": self.scores.numbers(),
            "diversity": self.diversity.numbers(),
            "domains": {name: scores.numbers() for name, scores in self.domains.items()},
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "skipped": self.skipped,
        }


@dataclass(frozen=True)
class Measured:
    """What one process measures for all; see `Evaluation`."""

    scores: Scores
    each: list[Scores]
    """by image"""
    diversity: Diversity
    domains: dict[str, Scores]
    intervals: dict[str, Interval]


def evaluate(
    captioner: Captioner,
    data: str | Path | Sequence[Sample],
    prompt: str | None = None,
    *,
    image_root: str = "",
    split: str = "",
    columns: Columns = Columns(),  # frozen
    batch_size: int = 8,
    tokens: MetricTokenizer = "auto",
    metrics: Sequence[ExtraMetric] = (),
    resamples: int = 0,
    learned: Iterable[str] | None = None,
    progress: Wrap = lambda results, total: results,
    **settings: Unpack[GenerationKwargs],
) -> Evaluation:
    """Caption every image of `data` that has references, and measure the captions against them.

    Several processes (`torchrun`) share the images out, and every one returns the evaluation of all.

    Args:
        captioner: what writes the captions.
        data: a data set's path, or its samples.
        prompt: what captions begin with (default: the image's own, else the model's).
        image_root: the folder that image paths are relative to (default: the data file's own).
        split: split of the data, as `open_data` takes it (default: all of them).
        columns: of tables, where they are called otherwise than usual.
        batch_size: images per batch.
        tokens: what counts as a word: "ptb", "words", "characters", or "auto", which sees by the references.
        metrics: more metrics, "meteor" and "spice": English only, from `cutline[coco]`, in Java.
        resamples: resamples of the images for intervals around the scores (0: none; 1000 are usual).
        learned: captions that the captioner learned from, to see how many of its own are novel.
        progress: wraps the results as they come, given their number: for a bar.
        settings: any field of `GenerationConfig`.

    Raises:
        DataError: no image has references, or none can be read.
        ConfigError: what `metrics` need is not installed, or `resamples` is negative.
    """
    check_extra_metrics(metrics)  # before an hour's captioning, not after it
    if resamples:
        check_resamples(resamples)
    samples = (
        open_data(DataSource(str(data), image_root, split, columns))
        if isinstance(data, str | Path)
        else data
    )
    samples = [sample for sample in samples if sample.captions]
    if not samples:
        raise DataError(
            f"{data if isinstance(data, str | Path) else 'the data'}: no image has a caption to compare with"
        )
    default = captioner.config.prompt if prompt is None else prompt
    prompts = [
        default if prompt is not None or sample.prompt is None else sample.prompt
        for sample in samples
    ]
    results = caption_samples(
        captioner, [sample.image for sample in samples], prompts, batch_size, progress, settings
    )
    found, skipped = [], []
    for sample, result in zip(samples, results, strict=True):
        if isinstance(result, ImageError):
            skipped.append(str(result))
        else:
            found.append((sample, result))
    if not found:
        raise DataError(f"none of the {len(samples)} images can be read; the first: {skipped[0]}")
    # one process measures: each would start a Java of its own
    shares = gather_results(
        lambda: (
            measure_captions(found, tokens, metrics, resamples, learned)
            if is_main_process()
            else None
        )
    )
    measured = cast(Measured, shares[0])
    return Evaluation(
        scores=measured.scores,
        pictures=[
            EvaluatedImage(sample, caption, scores)
            for (sample, caption), scores in zip(found, measured.each, strict=True)
        ],
        skipped=skipped,
        diversity=measured.diversity,
        domains=measured.domains,
        intervals=measured.intervals,
    )


def measure_captions(
    found: Sequence[tuple[Sample, Caption]],
    tokens: MetricTokenizer,
    metrics: Sequence[ExtraMetric],
    resamples: int,
    learned: Iterable[str] | None,
) -> Measured:
    """Everything that `evaluate` says of captions, from them and their references alone."""
    references = [sample.captions for sample, _ in found]
    tokenize = choose_tokenizer(tokens, (text for of_picture in references for text in of_picture))
    tally = collect_stats([caption.text for _, caption in found], references, tokenize, metrics)
    return Measured(
        scores=tally.whole(),
        each=tally.each(),
        diversity=measure_diversity(
            tally.candidates, None if learned is None else [tokenize(text) for text in learned]
        ),
        domains=score_domains(tally, [sample.domain for sample, _ in found]),
        intervals=bootstrap(tally, resamples) if resamples else {},
    )


def caption_samples(
    captioner: Captioner,
    images: Sequence[ImageSource],
    prompts: Sequence[str],
    batch_size: int,
    progress: Wrap,
    settings: GenerationKwargs,
) -> list[Result]:
    """The caption of every image, or why there is none; several processes take an equal share of the images each, and all get all."""
    mine = slice(rank(), None, world_size())

    def caption_mine() -> list[Result]:
        stream = captioner.stream(images[mine], prompts[mine], batch_size=batch_size, **settings)
        return list(progress(stream, len(images[mine])))

    results: list[Result | None] = [None] * len(images)
    for number, share in enumerate(gather_results(caption_mine)):
        results[number :: world_size()] = share
    return cast("list[Result]", results)


def score_domains(tally: CorpusStats, domains: Sequence[str]) -> dict[str, Scores]:
    """Scores of each domain's images, as a corpus of their own; those without a domain count only in the whole.

    CIDEr weighs the words of a domain by that domain's references, as evaluations with an annotation file per domain do: those of
    nocaps (Agrawal et al., 2019), where the whole is scored with a file of all references.
    """
    by_domain = {
        name: [place for place, domain in enumerate(domains) if domain == name]
        for name in sorted(set(domains) - {""})
    }
    return {name: tally.of(places).whole() for name, places in by_domain.items()}


def domain_table(found: Evaluation) -> tuple[list[list[object]], list[str]]:
    """A row per score, a column per domain and one for the whole; and the heads of the columns."""
    columns = {**found.domains, "whole": found.scores}
    rows: list[list[object]] = [
        [name, *(one.numbers()[name] for one in columns.values())]
        for name in found.scores.numbers()
    ]
    return rows, ["", *columns]


def write_evaluation_report(path: str | Path, found: Evaluation, count: int = 24) -> None:
    """Write an HTML page with the numbers, and the `count` images whose captions did best and worst by CIDEr."""
    ranked = sorted(found.pictures, key=lambda one: one.scores.cider, reverse=True)
    count = min(count, (len(ranked) + 1) // 2)
    sections = [("Scores", render_table(_score_rows(found)))]
    if found.domains:
        sections.append(("By domain", render_table(*domain_table(found))))
    sections += [
        (
            "How varied",
            render_table([[name, value] for name, value in found.diversity.numbers().items()]),
        ),
        ("Best captions", render_gallery([_card(one) for one in ranked[:count]])),
        (
            "Worst captions",
            render_gallery([_card(one) for one in reversed(ranked[len(ranked) - count :])]),
        ),
    ]
    if found.skipped:
        sections.append(
            ("Skipped", "".join(render_paragraph(sentence) for sentence in found.skipped))
        )
    write_report(
        path,
        "Evaluation",
        f"{len(found.pictures)} images, captioned and compared with their references.",
        sections,
    )


def _score_rows(found: Evaluation) -> list[list[object]]:
    """Name, score, and what lies 95 % sure around it."""
    spans = {name: f"{low:.4g} – {high:.4g}" for name, (low, high) in found.intervals.items()}
    return [
        [name, value, *([spans.get(name, "")] if spans else [])]
        for name, value in found.scores.numbers().items()
    ]


def _card(one: EvaluatedImage) -> Card:
    return Card(
        open_thumbnail(one.sample.image, THUMBNAIL_SIZE),
        one.caption.text,
        f"CIDEr {one.scores.cider:.2f} · {one.sample.captions[0]}",
    )
