"""The reward of SCST, against the metrics of `cutline evaluate`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.config import ScstConfig
from cutline.metrics import collect_stats
from cutline.metrics.ptb import tokenize
from cutline.training.tasks.scst_reward import Reward, SampledCaption

REFERENCES = [
    [
        "a man riding a wave on a surfboard",
        "a man riding a brown horse",
        "a man riding a motorcycle down the street",
    ],
    ["a dog in the park", "a dog on a bench"],
    ["a cat in the park", "two cats on a bench"],
    ["a red bus on the street", "a bus on a road"],
    ["a wave in the sea", "the sea"],
    ["a horse in a field", "horses"],
    ["a man on a motorcycle", "a motorcycle"],
]
FRAGMENT, CAPTION = "a man riding a", "a man riding a horse"
END = "zzz"
"""a word that stands for the end of a caption"""

WORDS = ["a", "man", "cat", "park", "on", ".", "it's"]
texts = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
references = st.lists(st.lists(texts, min_size=1, max_size=3), min_size=2, max_size=4)


def add_end(text: str) -> str:
    return f"{text} {END}"


@given(references, texts, st.booleans())
def test_it_is_the_metric_of_texts_that_end_with_a_word(
    references: list[list[str]], text: str, is_finished: bool
) -> None:
    config = ScstConfig(cider_weight=0.5, bleu4_weight=2.0)
    reward = Reward(config, references, tokenize)
    candidates = [add_end(text) if is_finished else text] * len(references)
    ended = [list(map(add_end, row)) for row in references]
    scores = collect_stats(candidates, ended, tokenize).score_images()
    for row, score in zip(references, scores, strict=True):
        actual = reward.compute_from_ngrams(SampledCaption(text, is_finished), row)
        assert actual == pytest.approx(0.5 * score.cider + 2 * score.bleu4, abs=1e-9)


def test_fragments_do_not_win() -> None:
    """Without an end token, they do."""
    reward = Reward(ScstConfig(), REFERENCES, tokenize)
    fragment, caption, unfinished = (
        reward.compute_from_ngrams(SampledCaption(text, is_finished), REFERENCES[0])
        for text, is_finished in ((FRAGMENT, True), (CAPTION, True), (CAPTION, False))
    )
    assert fragment < caption
    assert unfinished < caption
    others = [row[0] for row in REFERENCES[1:]]
    plain_fragment, plain_caption = (
        collect_stats([text, *others], REFERENCES, tokenize).score_images()[0].cider
        for text in (FRAGMENT, CAPTION)
    )
    assert plain_fragment > plain_caption


def test_an_empty_caption_has_a_reward() -> None:
    reward = Reward(ScstConfig(bleu4_weight=1.0), REFERENCES, tokenize)
    assert reward.compute_from_ngrams(SampledCaption("", False), REFERENCES[0]) == pytest.approx(0)
    assert 0 <= reward.compute_from_ngrams(SampledCaption("", True), REFERENCES[0]) < 0.1
