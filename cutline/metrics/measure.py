"""All scores of a corpus and of each of its images."""

from collections.abc import Iterable, Sequence

from cutline.config import ExtraMetric
from cutline.metrics import ptb
from cutline.metrics.scores import Scores
from cutline.metrics.stats import Tokenize, collect_stats


def measure(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: Tokenize = ptb.tokenize,
    extra: Iterable[ExtraMetric] = (),
) -> tuple[Scores, list[Scores]]:
    """Score one candidate per image against that image's references.

    Args:
        candidates: a caption per image; it may be empty.
        references: the captions that people wrote of each image, at least one.
        tokenize: how texts become words; `choose_tokenizer` finds one for a language.
        extra: metrics of English that run in Java, "meteor" and "spice", which need `cutline[coco]`.

    Returns:
        the scores of the whole, and those of each image in order. CIDEr weighs words by all the references given here, so a
        image's score depends on its company.

    Raises:
        DataError: there are no images, one has no references, or the numbers differ.
        ConfigError: what `extra` needs is not installed.
        CutlineError: the program that `extra` runs in failed.
    """
    counted = collect_stats(candidates, references, tokenize, tuple(extra))
    return counted.whole(), counted.each()
