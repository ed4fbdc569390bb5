"""All scores together: golden numbers of the field's evaluator, and what must hold without them."""

import dataclasses
import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.errors import DataError
from cutline.metrics import Scores, measure

FIELD_NAMES = {
    "bleu1": "Bleu_1",
    "bleu2": "Bleu_2",
    "bleu3": "Bleu_3",
    "bleu4": "Bleu_4",
    "rouge_l": "ROUGE_L",
    "cider": "CIDEr",
}
TEXTS = st.lists(
    st.sampled_from(["a", "man", "dog's", "red", "t-shirt,", "2 1/2", "U.S.", "."]), max_size=8
).map(" ".join)
CORPORA = st.lists(
    st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=5
)
Corpus = list[tuple[str, list[str]]]


def values_of(scores: Scores) -> tuple[float, ...]:
    return dataclasses.astuple(scores)[:7]


def measure_pictures(pictures: Corpus) -> tuple[Scores, list[Scores]]:
    return measure(
        [candidate for candidate, _ in pictures], [references for _, references in pictures]
    )


def test_golden_numbers(shared: Path) -> None:
    golden = json.loads((shared / "fixtures" / "metrics_golden.json").read_text(encoding="utf-8"))
    pictures = list(golden["candidates"])
    whole, each = measure(
        [golden["candidates"][key] for key in pictures],
        [golden["references"][key] for key in pictures],
    )
    assert whole.num_pictures == len(pictures) == 50
    for name, theirs in FIELD_NAMES.items():
        assert getattr(whole, name) == pytest.approx(golden["scores"][theirs], abs=1e-6)
        assert [getattr(one, name) for one in each] == pytest.approx(
            [golden["per_image"][key][theirs] for key in pictures], abs=1e-6
        )


def test_fields_in_order() -> None:
    assert [field.name for field in dataclasses.fields(Scores)] == [
        *FIELD_NAMES,
        "num_pictures",
        "meteor",
        "spice",
    ]


def test_numbers_are_those_that_were_asked_for() -> None:
    scores = Scores(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 7)
    assert list(scores.numbers()) == [*FIELD_NAMES, "num_pictures"]
    assert list(dataclasses.replace(scores, spice=0.0).numbers()) == [
        *FIELD_NAMES,
        "spice",
        "num_pictures",
    ]


def test_perfect_captions() -> None:
    texts = ["A man in a red shirt.", "Two dogs run on the beach."]
    whole, each = measure(texts, [[text] for text in texts])
    for scores in (whole, *each):
        assert values_of(scores)[:5] == pytest.approx([1] * 5, abs=1e-6)
        assert scores.cider == pytest.approx(10)
    assert [scores.num_pictures for scores in (whole, *each)] == [2, 1, 1]


def test_capitals_and_punctuation_do_not_count() -> None:
    references = [["A man, in a red shirt."], ["Two dogs!"]]
    assert measure(["a man in a RED shirt", "two dogs ."], references) == measure(
        ["A man, in a red shirt.", "Two dogs!"], references
    )


@given(CORPORA, st.randoms(use_true_random=False))
def test_order_of_pictures_does_not_matter(pictures: Corpus, random: Random) -> None:
    order = list(range(len(pictures)))
    random.shuffle(order)
    whole, each = measure_pictures(pictures)
    shuffled_whole, shuffled = measure_pictures([pictures[index] for index in order])
    assert values_of(shuffled_whole) == pytest.approx(values_of(whole))
    for scores, index in zip(shuffled, order, strict=True):
        assert values_of(scores) == pytest.approx(values_of(each[index]))


@given(CORPORA)
def test_scores_are_in_range_and_means_of_the_pictures(pictures: Corpus) -> None:
    whole, each = measure_pictures(pictures)
    assert len(each) == whole.num_pictures == len(pictures)
    for scores in (whole, *each):
        assert all(0 <= value <= 1 + 1e-5 for value in values_of(scores)[:5])
        assert -1e-9 <= scores.cider <= 10 + 1e-9
    for name in ("rouge_l", "cider"):
        assert getattr(whole, name) == pytest.approx(
            sum(getattr(one, name) for one in each) / len(each)
        )


def test_empty_captions_and_references_do_not_crash() -> None:
    whole, each = measure(["", "a dog", ""], [["a man"], ["", "a dog"], [""]])
    assert values_of(each[0]) == pytest.approx([0] * 6 + [1], abs=1e-12)
    assert each[1].rouge_l == 1
    assert 0 < whole.bleu1 < 1


def test_a_mixed_number_is_one_token_to_rouge_and_two_to_the_others() -> None:
    _, (scores, _) = measure(["2 1/2", "p"], [["2 cups"], ["q"]])
    assert scores.bleu1 == pytest.approx(1 / 2, abs=1e-8)
    assert scores.cider == pytest.approx(10 / 4 / 2)
    assert scores.rouge_l == 0


def test_another_tokeniser() -> None:
    whole, _ = measure(["một|hai"], [["một|ba"]], tokenize=lambda text: text.split("|"))
    assert whole.bleu1 == pytest.approx(1 / 2, abs=1e-8)
    assert measure(["một|hai"], [["một|ba"]])[0].bleu1 != pytest.approx(1 / 2, abs=1e-8)


@pytest.mark.parametrize(
    ("candidates", "references", "told"),
    [
        ([], [], "nothing to measure"),
        (["a dog", "a cat"], [["a dog"]], "2 captions and references of 1"),
        (["a dog", "a cat"], [["a dog"], []], "image 2 has no references"),
    ],
)
def test_errors_in_one_sentence(
    candidates: list[str], references: list[list[str]], told: str
) -> None:
    with pytest.raises(DataError, match=told) as error:
        measure(candidates, references)
    assert "\n" not in str(error.value)
