"""Pairs of scene and caption with mistakes."""

import math
from collections import Counter

import pytest
from hypothesis import given
from random_scenes import any_scene, get_kinds

from cutline.demo.drawing import Scene
from cutline.demo.grammar import describe_scene, is_correct, judge_caption
from cutline.demo.mistakes import (
    FALSE_WORDS,
    could_be_trained,
    list_false_captions,
    make_false_word_pairs,
    make_noisy_pairs,
    make_shuffled_pairs,
)
from cutline.demo.scenes import HELDOUT_PAIRS, UNSEEN_KINDS, make_scenes
from cutline.errors import ConfigError
from cutline.metrics import compute_auroc


@given(any_scene)
def test_false_captions_differ_in_one_word_or_relation(scene: Scene) -> None:
    caption = describe_scene(scene)
    for mistake in FALSE_WORDS:
        for wrong in list_false_captions(caption, scene, mistake):
            assert judge_caption(wrong, scene).startswith(("wrong", "no such object"))
            assert could_be_trained(wrong)
            words, changed = split_words(caption), split_words(wrong)
            assert sum(a != b for a, b in zip(words, changed, strict=True)) == 1


def split_words(caption: str) -> list[str]:
    """Return the words of a caption; a relation is one."""
    return caption.replace("to the left of", "left").split()


@given(any_scene)
def test_objects_of_a_relation_are_exchanged(scene: Scene) -> None:
    caption = describe_scene(scene)
    exchanged = list_false_captions(caption, scene, "order")
    has_relation = "above" in caption or "left of" in caption
    assert len(exchanged) == (has_relation and could_be_trained(caption))
    for wrong in exchanged:
        assert judge_caption(wrong, scene).startswith("wrong relation")
        assert list_false_captions(wrong, scene, "order") == []  # exchanged twice, it is true
        assert sorted(wrong.split()) == sorted(caption.split())


@given(any_scene)
def test_captions_of_training_scenes_could_be_trained(scene: Scene) -> None:
    kinds = get_kinds(scene)
    is_training_scene = not kinds & UNSEEN_KINDS and kinds not in HELDOUT_PAIRS
    assert could_be_trained(describe_scene(scene)) == is_training_scene


def test_half_of_the_pairs_have_one_false_word() -> None:
    pairs = make_false_word_pairs(400, 7)
    counts = Counter(pair.mistake for pair in pairs)
    assert counts == {"": 200, **dict.fromkeys(FALSE_WORDS, 50)}
    assert all(is_correct(pair.caption, pair.scene) == pair.is_right for pair in pairs)
    assert len({pair.scene for pair in pairs}) == 400


def test_the_captions_alone_do_not_tell_which_are_false() -> None:
    """Neither do the words nor their sequences, as often as training scenes have them."""
    captions = [describe_scene(scene) for scene in make_scenes(1500, 1)]
    for pairs in (
        make_false_word_pairs(1200, 3),
        make_false_word_pairs(1200, 3, ["order"]),
        make_shuffled_pairs(1200, 3, fraction=0.5),
    ):
        assert all(could_be_trained(pair.caption) for pair in pairs)
        for length in (1, 2, 4):
            counts = Counter(
                ngram for caption in captions for ngram in list_ngrams(caption, length)
            )
            scores = [
                sum(math.log(counts[ngram] + 0.1) for ngram in list_ngrams(pair.caption, length))
                for pair in pairs
            ]
            auroc = compute_auroc(scores, [pair.is_right for pair in pairs])
            assert auroc == pytest.approx(0.5, abs=0.05), length


def list_ngrams(caption: str, length: int) -> list[tuple[str, ...]]:
    words = ["<s>", *caption.split(), "</s>"]
    return list(zip(*(words[start:] for start in range(length)), strict=False))


def test_too_few_scenes_are_an_error() -> None:
    """No other scene has a caption that is wrong."""
    with pytest.raises(ConfigError, match="1 scenes are too few"):
        make_shuffled_pairs(1, 0, fraction=1.0)


def test_shuffled_captions_are_those_of_other_scenes() -> None:
    pairs = make_shuffled_pairs(1000, 5)
    wrong = [pair for pair in pairs if not pair.is_right]
    assert len(wrong) == 300
    assert {pair.mistake for pair in wrong} == {"other scene"}
    assert all(is_correct(pair.caption, pair.scene) == pair.is_right for pair in pairs)
    captions = {describe_scene(pair.scene) for pair in pairs}
    assert all(pair.caption in captions for pair in wrong)


def test_noisy_captions_are_wrong_as_often_as_requested() -> None:
    scenes = make_scenes(300, 8)
    pairs = make_noisy_pairs(scenes, 1, shuffled=0.25, false_word=0.15)
    counts = Counter(pair.mistake for pair in pairs)
    assert [pair.scene for pair in pairs] == scenes
    assert all(is_correct(pair.caption, pair.scene) == pair.is_right for pair in pairs)
    assert (counts["other scene"], counts[""]) == (75, 180)
    assert all(counts[mistake] for mistake in FALSE_WORDS)
    assert pairs == make_noisy_pairs(scenes, 1, shuffled=0.25, false_word=0.15)


def test_scenes_of_both_sets_and_of_training_differ() -> None:
    sets = [
        {pair.scene for pair in make_false_word_pairs(200, 1)},
        {pair.scene for pair in make_shuffled_pairs(200, 2)},
        set(make_scenes(200, 3)),
    ]
    assert len(set().union(*sets)) == 600


def test_a_seed_gives_the_same_pairs() -> None:
    assert make_false_word_pairs(20, 1) == make_false_word_pairs(30, 1)[:20]
    assert make_false_word_pairs(20, 1) != make_false_word_pairs(20, 2)
    assert make_shuffled_pairs(20, 1) == make_shuffled_pairs(20, 1)
