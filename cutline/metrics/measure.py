"""All scores of a corpus and of each of its pictures."""

from collections.abc import Iterable, Sequence

from cutline.config import ExtraMetric
from cutline.metrics import ptb
from cutline.metrics.scores import Scores
from cutline.metrics.tally import Tokenize, tally_captions


def measure(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: Tokenize = ptb.tokenize,
    extra: Iterable[ExtraMetric] = (),
) -> tuple[Scores, list[Scores]]:
    """Score one candidate per picture against that picture's references.

    Args:
        candidates: a caption per picture; it may be empty.
        references: the captions that people wrote of each picture, at least one.
        tokenize: how texts become words; `choose_tokens` finds one for a language.
        extra: metrics of English that run in Java, "meteor" and "spice", which need `cutline[coco]`.

    Returns:
        the scores of the whole, and those of each picture in order. CIDEr weighs words by all the references given here, so a
        picture's score depends on its company.

    Raises:
        DataError: there are no pictures, one has no references, or the numbers differ.
        ConfigError: what `extra` needs is not installed.
        CutlineError: the program that `extra` runs in failed.
    """
    counted = tally_captions(candidates, references, tokenize, tuple(extra))
    return counted.whole(), counted.each()
