"""Scores, words and diversity of an evaluation, as its report shows them."""

from collections.abc import Mapping, Sequence

from cutline.evaluation.evaluation import Evaluation
from cutline.evaluation.evaluation_findings import count_captions
from cutline.metrics import METRIC_NAMES, QUANTILES, Scores, WordUsage, WordUsages
from cutline.metrics.word_usage import MIN_Z
from cutline.report import Table, format_fixed, format_interval, format_percent

MAX_GROUPS = 500
"""groups that a report lists"""
MAX_REPEATED = 10
"""captions of several images that a report lists"""
FIGURE_METRICS = ("cider", "bleu4", "rouge_l", "meteor", "spice")
"""metrics in large type"""
DIVERSITY_NAMES = {
    "vocabulary": "distinct words",
    "mean_length": "words per caption",
    "unique": "of the captions are distinct",
    "novel": "of the captions are not in the training data",
    "distinct1": "distinct words / words (distinct-1)",
    "distinct2": "distinct bigrams / words (distinct-2)",
}
_SHARES = ("unique", "novel")


def make_score_rows(evaluation: Evaluation) -> list[list[object]]:
    """Return the name and value of each score, and its confidence interval if there are any."""
    rows: list[list[object]] = []
    for name, value in evaluation.scores.to_dict().items():
        rows.append([METRIC_NAMES.get(name, "images"), value])
        if evaluation.intervals:
            interval = evaluation.intervals.get(name)
            rows[-1].append(format_interval(*interval) if interval else "")
    return rows


def list_scores(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return the most important scores, each with its name, and the number of images."""
    figures = []
    for name in FIGURE_METRICS:
        value = getattr(evaluation.scores, name)
        if value is not None:
            figures.append((format_fixed(value, 3), METRIC_NAMES[name]))
    return [*figures, (f"{len(evaluation.images):,}", "images")]


def make_score_table(evaluation: Evaluation) -> Table:
    """Return a table of all scores, with the quantiles of the scores of images."""
    rows = []
    for name, quantiles in evaluation.quantiles.items():
        interval = evaluation.intervals.get(name)
        text = format_interval(*interval) if interval else "–"
        rows.append([METRIC_NAMES[name], getattr(evaluation.scores, name), text, *quantiles])
    header = ["metric", "all images", "95 % interval", *map(_name_quantile, QUANTILES)]
    caption = "Scores, and quantiles of single images"
    if not evaluation.intervals:
        rows = [[*row[:2], *row[3:]] for row in rows]
        header.remove("95 % interval")
        caption += "; --resamples 1000 adds confidence intervals"
    return Table(rows, header, caption=caption)


def _name_quantile(quantile: float) -> str:
    return "median" if quantile == 0.5 else f"{100 * quantile:g} %"


def make_group_table(noun: str, groups: Mapping[str, Scores], total: Scores) -> Table:
    """Return a table of scores by group, lowest CIDEr first, and of all images."""
    ranked = sorted(groups.items(), key=lambda item: item[1].cider)
    metrics = [name for name in METRIC_NAMES if getattr(total, name) is not None]
    rows = [
        [name, scores.num_images, *(getattr(scores, metric) for metric in metrics)]
        for name, scores in [*ranked[:MAX_GROUPS], ("all images", total)]
    ]
    caption = f"Scores by {noun}"
    if len(ranked) > MAX_GROUPS:
        caption += f": the {MAX_GROUPS:,} of {len(ranked):,} with the lowest CIDEr"
    return Table(rows, [noun, "images", *(METRIC_NAMES[name] for name in metrics)], caption=caption)


def list_diversity(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return how varied the captions are: numbers, each with its name."""
    values = evaluation.diversity.to_dict()
    return [
        (_format_diversity(name, values[name]), text)
        for name, text in DIVERSITY_NAMES.items()
        if name in values
    ]


def _format_diversity(name: str, value: float) -> str:
    if name in _SHARES:
        return format_percent(value)
    if name == "vocabulary":
        return f"{value:,}"
    return format_fixed(value, 1 if name == "mean_length" else 3)


def describe_word_usage(usages: WordUsages) -> str:
    """Return what the tables of words contain."""
    if not usages.overused and not usages.underused:
        return "Captions use no word significantly more or less often than references do."
    return (
        "Captions contain these words significantly more, or less, often than the references of "
        f"the same images. z is the difference in standard errors; words with |z| ≥ {MIN_Z:g} are "
        "listed, the most significant first."
    )


def make_word_tables(usages: WordUsages) -> list[Table]:
    """Return tables of the words that captions use more, and less, often than references."""
    tables = {
        "Words that captions overuse": usages.overused,
        "Words that captions underuse": usages.underused,
    }
    return [_make_word_table(*each) for each in tables.items() if each[1]]


def _make_word_table(caption: str, usages: Sequence[WordUsage]) -> Table:
    rows = [[usage.word, usage.captions, usage.references, usage.z] for usage in usages]
    header = ["word", "in captions", "in references", "z"]
    return Table(rows, header, ["z"], header[1:3], caption)


def make_repeated_table(evaluation: Evaluation) -> Table | None:
    """Return a table of the captions that most images share, or None if each has its own."""
    counts = count_captions(evaluation.images)
    repeated = [(text, count) for text, count in counts.most_common() if text and count > 1]
    if not repeated:
        return None
    total = sum(count for _, count in repeated)
    caption = f"{total:,} of {len(evaluation.images):,} images share their caption with another one"
    if len(repeated) > MAX_REPEATED:
        caption += f"; the {MAX_REPEATED} most frequent captions of {len(repeated):,}"
    return Table(repeated[:MAX_REPEATED], ["caption", "images"], caption=caption)
