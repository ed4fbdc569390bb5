"""Scores of corpora: golden numbers of the COCO evaluator, and properties of any corpus."""

import dataclasses
import json
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutline.errors import DataError
from cutline.metrics import METRIC_NAMES, Scores, collect_stats, compute_metrics

EVALUATOR_NAMES = {
    "bleu1": "Bleu_1",
    "bleu2": "Bleu_2",
    "bleu3": "Bleu_3",
    "bleu4": "Bleu_4",
    "rouge_l": "ROUGE_L",
    "cider": "CIDEr",
}
WORDS = ["a", "man", "dog's", "red", "t-shirt,", "2 1/2", "U.S.", "."]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join)
IMAGES = st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
CORPORA = st.lists(IMAGES, min_size=1, max_size=5)
Corpus = list[tuple[str, list[str]]]


def to_tuple(scores: Scores) -> tuple[float, ...]:
    return dataclasses.astuple(scores)[:7]


def score_corpus(corpus: Corpus) -> tuple[Scores, list[Scores]]:
    return compute_metrics(
        [candidate for candidate, _ in corpus], [references for _, references in corpus]
    )


def test_golden_numbers(shared: Path) -> None:
    golden = json.loads((shared / "fixtures" / "metrics_golden.json").read_text(encoding="utf-8"))
    keys = list(golden["candidates"])
    scores, image_scores = compute_metrics(
        [golden["candidates"][key] for key in keys], [golden["references"][key] for key in keys]
    )
    assert scores.num_images == len(keys) == 50
    for name, golden_name in EVALUATOR_NAMES.items():
        assert getattr(scores, name) == pytest.approx(golden["scores"][golden_name], abs=1e-6)
        assert [getattr(image, name) for image in image_scores] == pytest.approx(
            [golden["per_image"][key][golden_name] for key in keys], abs=1e-6
        )


def test_fields_are_in_order() -> None:
    fields = [field.name for field in dataclasses.fields(Scores)]
    assert fields == [*EVALUATOR_NAMES, "num_images", "meteor", "spice"]
    assert {*METRIC_NAMES, "num_images"} == set(fields)


def test_dictionary_holds_the_requested_scores() -> None:
    scores = Scores(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 7)
    assert list(scores.to_dict()) == [*EVALUATOR_NAMES, "num_pictures"]
    with_spice = dataclasses.replace(scores, spice=0.0)
    assert list(with_spice.to_dict()) == [*EVALUATOR_NAMES, "spice", "num_pictures"]


def test_perfect_captions() -> None:
    texts = ["A man in a red shirt.", "Two dogs run on the beach."]
    corpus_scores, image_scores = compute_metrics(texts, [[text] for text in texts])
    for scores in (corpus_scores, *image_scores):
        assert to_tuple(scores)[:5] == pytest.approx([1] * 5, abs=1e-6)
        assert scores.cider == pytest.approx(10)
    assert [scores.num_images for scores in (corpus_scores, *image_scores)] == [2, 1, 1]


def test_capitals_and_punctuation_do_not_count() -> None:
    references = [["A man, in a red shirt."], ["Two dogs!"]]
    plain = compute_metrics(["a man in a RED shirt", "two dogs ."], references)
    assert plain == compute_metrics(["A man, in a red shirt.", "Two dogs!"], references)


@given(CORPORA, st.randoms(use_true_random=False))
def test_order_of_images_does_not_matter(corpus: Corpus, random: Random) -> None:
    order = list(range(len(corpus)))
    random.shuffle(order)
    scores, image_scores = score_corpus(corpus)
    shuffled_scores, shuffled_image_scores = score_corpus([corpus[index] for index in order])
    assert to_tuple(shuffled_scores) == pytest.approx(to_tuple(scores))
    for shuffled, index in zip(shuffled_image_scores, order, strict=True):
        assert to_tuple(shuffled) == pytest.approx(to_tuple(image_scores[index]))


@given(CORPORA)
def test_scores_are_in_range_and_rouge_and_cider_are_means(corpus: Corpus) -> None:
    corpus_scores, image_scores = score_corpus(corpus)
    assert len(image_scores) == corpus_scores.num_images == len(corpus)
    for scores in (corpus_scores, *image_scores):
        assert all(0 <= value <= 1 + 1e-5 for value in to_tuple(scores)[:5])
        assert -1e-9 <= scores.cider <= 10 + 1e-9
    for name in ("rouge_l", "cider"):
        mean = sum(getattr(image, name) for image in image_scores) / len(image_scores)
        assert getattr(corpus_scores, name) == pytest.approx(mean)


@settings(max_examples=30)
@given(CORPORA, st.randoms(use_true_random=False))
def test_subset_is_scored_as_a_corpus_of_its_own(corpus: Corpus, random: Random) -> None:
    """CIDEr too, although its weights of words come from the references."""
    indices = sorted(random.sample(range(len(corpus)), random.randint(1, len(corpus))))
    candidates, references = [text for text, _ in corpus], [texts for _, texts in corpus]
    subset = collect_stats(candidates, references).select(indices)
    expected, expected_images = score_corpus([corpus[index] for index in indices])
    assert len(subset) == len(indices)
    pairs = zip(
        [subset.score_corpus(), *subset.score_images()], [expected, *expected_images], strict=True
    )
    for scores, expected_scores in pairs:
        assert dataclasses.asdict(scores) == pytest.approx(dataclasses.asdict(expected_scores))


def test_empty_captions_and_references() -> None:
    scores, image_scores = compute_metrics(["", "a dog", ""], [["a man"], ["", "a dog"], [""]])
    assert to_tuple(image_scores[0]) == pytest.approx([0] * 6 + [1], abs=1e-12)
    assert image_scores[1].rouge_l == 1
    assert 0 < scores.bleu1 < 1


def test_mixed_number_is_one_token_in_rouge_and_two_in_other_metrics() -> None:
    _, (scores, _) = compute_metrics(["2 1/2", "p"], [["2 cups"], ["q"]])
    assert scores.bleu1 == pytest.approx(1 / 2, abs=1e-8)
    assert scores.cider == pytest.approx(10 / 4 / 2)
    assert scores.rouge_l == 0


def test_another_tokenizer() -> None:
    candidates, references = ["một|hai"], [["một|ba"]]
    scores, _ = compute_metrics(candidates, references, lambda text: text.split("|"))
    assert scores.bleu1 == pytest.approx(1 / 2, abs=1e-8)
    assert compute_metrics(candidates, references)[0].bleu1 != pytest.approx(1 / 2, abs=1e-8)


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ([], [], "no captions to measure"),
        (["a dog", "a cat"], [["a dog"]], "2 captions, but references of 1 images"),
        (["a dog", "a cat"], [["a dog"], []], "image 2 has no references"),
    ],
)
def test_errors_are_one_sentence(
    candidates: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        compute_metrics(candidates, references)
    assert "\n" not in str(error.value)


@settings(max_examples=30)
@given(CORPORA)
def test_group_of_one_image_has_its_scores(corpus: Corpus) -> None:
    stats = collect_stats(*map(list, zip(*corpus, strict=True)))
    names = [str(number) for number in range(len(corpus))]
    assert stats.score_groups(names) == dict(zip(names, stats.score_images(), strict=True))
    assert stats.score_groups([""] * len(corpus)) == {}


@settings(max_examples=30)
@given(CORPORA, st.data())
def test_group_is_a_corpus_with_the_document_frequencies_of_all(
    corpus: Corpus, data: st.DataObject
) -> None:
    stats = collect_stats(*map(list, zip(*corpus, strict=True)))
    groups = data.draw(st.lists(st.sampled_from(["", "b", "a"]), min_size=len(stats), max_size=5))
    groups = groups[: len(stats)]
    scores = stats.score_groups(groups)
    assert list(scores) == sorted({*groups} - {""})
    for name, group_scores in scores.items():
        images = [image for image, group in enumerate(groups) if group == name]
        ciders = [stats.score_images()[image].cider for image in images]
        expected = dataclasses.asdict(stats.select(images).score_corpus())
        expected["cider"] = sum(ciders) / len(ciders)
        assert dataclasses.asdict(group_scores) == pytest.approx(expected)


def test_thousands_of_groups_take_no_time() -> None:
    stats, times = collect_stats(["a dog", "two cats"], [["a dog runs"], ["cats"]]), 10_000
    tiled = {name: np.tile(values, (times, 1)) for name, values in stats.image_stats.items()}
    stats = dataclasses.replace(stats, image_stats=tiled)
    start = time.process_time()
    scores = stats.score_groups([f"scene {number}" for number in range(2 * times)])
    # Selecting the images of each group would take 2 * times times as long as one pass.
    assert time.process_time() - start < 2
    assert len(scores) == 2 * times


@given(CORPORA)
def test_cider_is_ten_times_the_mean_similarity(corpus: Corpus) -> None:
    stats = collect_stats(*map(list, zip(*corpus, strict=True)))
    assert [image.cider for image in stats.score_images()] == [
        10 * sum(values) / len(values) for values in stats.similarities
    ]
