"""Evaluation of a matcher."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_matcher import make_matcher

from cutline.data import Sample, open_data
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.errors import ConfigError, DataError
from cutline.evaluation import MatchEvaluation, evaluate_matcher
from cutline.evaluation.ranking import TextSet
from cutline.matcher import Matcher
from cutline.metrics import Recall, RetrievalScores, compute_auroc
from cutline.tokenizer import clean_caption


@pytest.fixture(scope="module")
def matcher() -> Matcher:
    """Return a matcher with random weights."""
    return make_matcher()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Return 14 drawn scenes with two texts each, all of which differ."""
    pairs = permutations(["red", "blue", "green", "above", "left"], 2)
    data = write_scenes(tmp_path_factory.mktemp("scenes"), make_scenes(14, seed=5))
    return [
        dataclasses.replace(sample, captions=(f"{words} circle", f"two {words}. STAR"))
        for sample, words in zip(open_data(data), map(" ".join, pairs), strict=False)
    ]


def reference_evaluation(matcher: Matcher, samples: list[Sample], k_test: int) -> RetrievalScores:
    """Return recall after re-ranking as BLIP's train_retrieval.py `evaluation` computes it.

    Its matrices are filled with -100, every image is kept, and every pair is read on its own.
    """
    texts = [clean_caption(text, "blip", 30) for sample in samples for text in sample.captions]
    images = [sample.image for sample in samples for _ in sample.captions]
    embeds = [matcher.features(sample.image, None, "image") for sample in samples]
    cosines = matcher.similarity([s.image for s in samples], texts, pairs=False)
    tokens = [matcher.tokenizer.encode_text(text, 35) for text in texts]
    matrices = []
    for similarity, is_transposed in ((cosines, False), (cosines.T, True)):
        scores = torch.full(similarity.shape, -100.0)
        for row, values in enumerate(similarity):
            top = torch.topk(values, k_test)
            for value, column in zip(*top, strict=True):
                text, image = (row, int(column)) if is_transposed else (int(column), row)
                ids = torch.tensor([[matcher.tokenizer.enc_id, *tokens[text][1:]]])
                hidden = matcher.model.read_pairs(ids, torch.ones_like(ids), embeds[image])
                scores[row, column] = matcher.model.classify(hidden)[0, 1] + value
        matrices.append(scores.detach().numpy())
    first, second = matrices
    owners = [[s.image for s in samples].index(image) for image in images]
    return RetrievalScores(
        rank_recall(first, [[t for t, o in enumerate(owners) if o == i] for i in range(14)]),
        rank_recall(second, [[owner] for owner in owners]),
    )


def rank_recall(scores: np.ndarray, right: list[list[int]]) -> Recall:
    ranks = []
    for row, answers in zip(scores, right, strict=True):
        order = np.argsort(row)[::-1].tolist()
        ranks.append(min(map(order.index, answers)))
    return Recall(*(float(np.mean(np.array(ranks) < cutoff)) for cutoff in (1, 5, 10)))


@torch.no_grad()
@pytest.mark.parametrize("k_test", [10, 14])
def test_recall_is_that_of_the_reference(
    matcher: Matcher, samples: list[Sample], k_test: int
) -> None:
    result = evaluate_matcher(matcher, samples, k_test=k_test, batch_size=4)
    assert result.reranked_by_index == reference_evaluation(matcher, samples, k_test)
    assert result.reranked == result.reranked_by_index  # no two texts are equal
    assert (result.num_images, result.num_texts, result.skipped) == (14, 28, [])
    assert 0 < result.reranked.mean < 1


def test_one_candidate_is_ranked_as_by_cosine(matcher: Matcher, samples: list[Sample]) -> None:
    result = evaluate_matcher(matcher, samples, k_test=1)
    assert result.reranked.image_to_text.at1 == result.cosine.image_to_text.at1
    assert result.reranked.text_to_image.at10 == result.cosine.text_to_image.at1


def test_batch_sizes_change_nothing(matcher: Matcher, samples: list[Sample]) -> None:
    results = [evaluate_matcher(matcher, samples, k_test=5, batch_size=size) for size in (1, 3, 64)]
    for result in results[1:]:
        assert result.reranked == results[0].reranked
        assert result.itm_auroc == results[0].itm_auroc


def test_equal_texts_count_as_found(matcher: Matcher, samples: list[Sample]) -> None:
    """All images have the same text but for case and marks, which cleaning removes."""
    texts = ["A dog.", "a dog", "a  DOG!"]
    equal = [
        dataclasses.replace(sample, captions=(texts[n % 3],)) for n, sample in enumerate(samples)
    ]
    result = evaluate_matcher(matcher, equal)
    assert result.cosine.mean == result.reranked.mean == 1
    assert result.reranked_by_index.image_to_text.at1 == pytest.approx(1 / 14)
    assert result.reranked_by_index.text_to_image.at1 == pytest.approx(1 / 14)
    assert result.itm_auroc is None  # no text is wrong for any image
    unclean = evaluate_matcher(matcher, equal, clean="none")
    assert unclean.cosine.mean < 1
    assert unclean.itm_auroc is not None


def test_itm_is_asked_about_a_right_and_a_wrong_text(
    matcher: Matcher, samples: list[Sample]
) -> None:
    """With one text for all images but one, both kinds of pairs are known."""
    others = [dataclasses.replace(sample, captions=("a red circle",)) for sample in samples[1:]]
    first = dataclasses.replace(samples[0], captions=("two stars",))
    result = evaluate_matcher(matcher, [first, *others])
    images = [sample.image for sample in samples]
    right = matcher.match(images, ["two stars", *["a red circle"] * 13])
    wrong = matcher.match(images, ["a red circle", *["two stars"] * 13])
    scores = torch.cat([right, wrong]).double().logit().numpy()
    assert result.itm_auroc == pytest.approx(compute_auroc(scores, [True] * 14 + [False] * 14))
    accuracy = ((right >= 0.5).sum() + (wrong < 0.5).sum()) / 28
    assert result.itm_accuracy == pytest.approx(float(accuracy))


def test_unreadable_images_are_skipped(
    matcher: Matcher, samples: list[Sample], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(str(samples[0].image)).read_bytes()[:50])
    rows = [
        Sample(str(broken), ("a text of its own",), "broken"),
        *samples,
        Sample(str(tmp_path / "gone.png"), ("another text",), "gone"),
        Sample(str(tmp_path / "no text.png"), (), "no text"),
    ]
    result = evaluate_matcher(matcher, rows, k_test=5)
    first, second = result.skipped
    assert "broken.png" in first
    assert "gone.png" in second
    expected = evaluate_matcher(matcher, samples, k_test=5)
    assert dataclasses.replace(result, skipped=[]) == expected


def test_an_image_that_disappears_is_not_found(
    matcher: Matcher, samples: list[Sample], tmp_path: Path
) -> None:
    """Between the two passes over the images."""
    image = tmp_path / "image.png"
    image.write_bytes(Path(str(samples[0].image)).read_bytes())
    rows = [dataclasses.replace(samples[0], image=str(image)), *samples[1:]]

    def progress(items: Iterable[object], total: int, description: str) -> Iterator[object]:
        yield from items
        image.unlink(missing_ok=True)

    result = evaluate_matcher(matcher, rows, progress=progress)  # type: ignore[arg-type]
    assert len(result.skipped) == 1
    assert str(image) in result.skipped[0]
    whole = evaluate_matcher(matcher, samples)
    assert result.cosine == whole.cosine
    assert result.reranked.text_to_image.at10 <= whole.reranked.text_to_image.at10


def test_images_of_several_rows_are_one(matcher: Matcher, samples: list[Sample]) -> None:
    rows = [
        dataclasses.replace(sample, captions=(caption,))
        for sample in samples
        for caption in sample.captions
    ]
    assert evaluate_matcher(matcher, rows, k_test=5) == evaluate_matcher(matcher, samples, k_test=5)


def test_data_without_texts_or_images_is_an_error(matcher: Matcher, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image has a text"):
        evaluate_matcher(matcher, [Sample("a.png", (), "a")])
    gone = Sample(str(tmp_path / "gone.png"), ("a",), "a")
    with pytest.raises(DataError, match=r"none of the 1 images.*gone\.png"):
        evaluate_matcher(matcher, [gone])


@pytest.mark.parametrize(
    "setting", [{"k_test": 0}, {"k_test": "9"}, {"clean": "BLIP"}, {"max_words": 0}]
)
def test_invalid_settings_are_errors_that_name_them(
    matcher: Matcher, samples: list[Sample], setting: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        evaluate_matcher(matcher, samples, **setting)


def test_texts_that_cleaning_empties_are_left_out(matcher: Matcher, samples: list[Sample]) -> None:
    """As in training. They would be equal texts, which all of their images count as found."""
    noisy = [dataclasses.replace(s, captions=("!!!", *s.captions, " ")) for s in samples[1:]]
    empty = dataclasses.replace(samples[0], captions=("...",))
    result = evaluate_matcher(matcher, [empty, *noisy], k_test=5)
    assert result == evaluate_matcher(matcher, samples[1:], k_test=5)
    with pytest.raises(DataError, match="empty after cleaning"):
        evaluate_matcher(matcher, [empty])


@given(
    texts=st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=4), min_size=1),
)
def test_texts_belong_to_all_images_that_have_them(texts: list[list[str]]) -> None:
    found = TextSet.from_texts(texts)
    flat = [(image, text) for image, row in enumerate(texts) for text in row]
    images, numbers = np.arange(len(texts))[:, None], np.arange(len(flat))[None]
    equal, own = found.is_equal(images, numbers), found.is_own(images, numbers)
    for image, row in enumerate(texts):
        assert equal[image].tolist() == [text in row for _, text in flat]
        assert own[image].tolist() == [image == owner for owner, _ in flat]
    right, wrong = (
        [(key // len(found.distinct), found.distinct[key % len(found.distinct)]) for key in keys]
        for keys in found.draw_pairs()
    )
    assert [image for image, _ in right] == list(range(len(texts)))
    assert all(text in texts[image] for image, text in right)
    assert not any(text in texts[image] for image, text in wrong)
    all_texts = {text for _, text in flat}
    assert [i for i, _ in wrong] == [i for i, row in enumerate(texts) if set(row) != all_texts]


def test_the_result_is_json(matcher: Matcher, samples: list[Sample]) -> None:
    result = evaluate_matcher(matcher, samples[:3])
    values = json.loads(json.dumps(result.to_dict()))
    assert list(values) == [field.name for field in dataclasses.fields(MatchEvaluation)]
    assert values["reranked"]["mean"] == result.reranked.mean
    assert values["cosine"]["image_to_text"]["at5"] == 1
