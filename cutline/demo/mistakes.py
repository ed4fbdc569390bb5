"""Pairs of scene and caption, some of which are wrong, to test whether a model finds those.

A wrong caption is one that a training scene could have: neither a word nor a combination of words
tells that it is wrong, only the image does.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from typing import Literal

from cutline.demo.drawing import COLORS, SHAPES, Scene
from cutline.demo.grammar import PLURALS, SINGULARS, describe_scene, is_correct
from cutline.demo.scenes import HELDOUT_PAIRS, UNSEEN_KINDS, Kind, make_scenes
from cutline.errors import ConfigError

Mistake = Literal["", "other scene", "color", "shape", "relation", "number", "order"]
"""what is wrong in a caption; "" if nothing is"""
FALSE_WORDS: tuple[Mistake, ...] = ("color", "shape", "relation", "number")
"""mistakes of one word, or of one relation"""

_RELATIONS = ("above", "to the left of")
_REPLACEMENTS: dict[Mistake, tuple[Sequence[str], ...]] = {
    "color": (tuple(COLORS),),
    "shape": (SHAPES, tuple(PLURALS.values())),
    "relation": (_RELATIONS,),
    "number": (("two", "three"),),
}
"""sets of words, of which a false one replaces a true one"""


@dataclass(frozen=True)
class ScenePair:
    """A scene with a caption that is true of it or not."""

    scene: Scene
    caption: str
    mistake: Mistake = ""

    @property
    def is_right(self) -> bool:
        """Return whether every word of the caption is true of the scene."""
        return not self.mistake


def make_shuffled_pairs(count: int, seed: int = 0, fraction: float = 0.3) -> list[ScenePair]:
    """Return scenes with their captions, a fraction of which are those of other scenes.

    Args:
        count: Number of scenes.
        seed: Seed of the scenes and of the choice.
        fraction: Fraction of the scenes that get a caption of another one, which is not true of
            them.

    Raises:
        ConfigError: There are too few scenes.
    """
    rng = random.Random(f"shuffled {seed}")
    pairs = _describe_scenes(make_scenes(count, seed))
    for index in rng.sample(range(count), round(fraction * count)):
        pairs[index] = _take_other_caption(rng, pairs[index].scene, pairs)
    return pairs


def _describe_scenes(scenes: Sequence[Scene]) -> list[ScenePair]:
    return [ScenePair(scene, describe_scene(scene)) for scene in scenes]


def _take_other_caption(rng: random.Random, scene: Scene, pairs: Sequence[ScenePair]) -> ScenePair:
    """Return a scene with the caption of one of the pairs that is not true of it.

    Raises:
        ConfigError: Hardly any caption is not true of it.
    """
    for _ in range(1000):
        caption = rng.choice(pairs).caption
        if not is_correct(caption, scene):
            return ScenePair(scene, caption, "other scene")
    raise ConfigError(
        f"{len(pairs)} scenes are too few to shuffle their captions: make more scenes"
    )


def make_noisy_pairs(
    scenes: Sequence[Scene], seed: int = 0, shuffled: float = 0.3, false_word: float = 0.2
) -> list[ScenePair]:
    """Return scenes with captions as noisy as those of images on web pages.

    Args:
        scenes: The scenes.
        seed: Seed of the choice.
        shuffled: Fraction of the captions that are those of other scenes, and not true.
        false_word: Fraction of the captions that have one false word.
    """
    rng = random.Random(f"noisy {seed}")
    true_pairs = _describe_scenes(scenes)
    count, num_shuffled = len(scenes), round(shuffled * len(scenes))
    wrong = rng.sample(range(count), num_shuffled + round(false_word * count))
    pairs = list(true_pairs)
    for position, index in enumerate(wrong):
        if position < num_shuffled:
            pairs[index] = _take_other_caption(rng, scenes[index], true_pairs)
        else:
            pairs[index] = _change_word(rng, true_pairs[index])
    return pairs


def _change_word(rng: random.Random, pair: ScenePair) -> ScenePair:
    """Return a scene with a false word, of a kind of word that its caption has."""
    for mistake in rng.sample(FALSE_WORDS, len(FALSE_WORDS)):
        if wrong := list_false_captions(pair.caption, pair.scene, mistake):
            return ScenePair(pair.scene, rng.choice(wrong), mistake)
    return pair


def make_false_word_pairs(
    count: int, seed: int = 0, mistakes: Sequence[Mistake] = FALSE_WORDS
) -> list[ScenePair]:
    """Return scenes with captions, of which every second has one mistake.

    All mistakes are equally frequent. The scenes with true captions are drawn in the same way: each
    could have had such a mistake.

    Args:
        count: Number of scenes.
        seed: Seed of the scenes and of the choice.
        mistakes: Kinds of mistakes: those of one false word, or "order", where the objects of a
            relation are exchanged.
    """
    return list(islice(_make_false_word_pairs(seed, mistakes), count))


def _make_false_word_pairs(seed: int, mistakes: Sequence[Mistake]) -> Iterator[ScenePair]:
    """Yield a true and a false pair by turns; both could have a mistake of one kind."""
    rng = random.Random(f"false words {seed}")
    described = ((scene, describe_scene(scene)) for scene in _make_endless_scenes(seed))
    for mistake in cycle(mistakes):
        for is_false in (False, True):
            scene, caption, wrong = next(
                (scene, caption, wrong)
                for scene, caption in described
                if (wrong := list_false_captions(caption, scene, mistake))
            )
            yield (
                ScenePair(scene, rng.choice(wrong), mistake)
                if is_false
                else ScenePair(scene, caption)
            )


def _make_endless_scenes(seed: int, chunk: int = 256) -> Iterator[Scene]:
    rng = random.Random(f"scenes {seed}")
    while True:
        yield from make_scenes(chunk, rng.randrange(2**63))


def list_false_captions(caption: str, scene: Scene, mistake: Mistake) -> list[str]:
    """Return all captions that differ from a true one by one mistake, and are false of the scene.

    Args:
        caption: A caption that is true of the scene.
        scene: The scene.
        mistake: What differs: a word of a kind in FALSE_WORDS, or the "order" of two objects.
    """
    changed = _exchange_objects(caption) if mistake == "order" else _replace_words(caption, mistake)
    return [text for text in changed if could_be_trained(text) and not is_correct(text, scene)]


def _exchange_objects(caption: str) -> list[str]:
    parts = (caption.partition(f" {relation} ") for relation in _RELATIONS)
    return [second + relation + first for first, relation, second in parts if relation]


def _replace_words(caption: str, mistake: Mistake) -> list[str]:
    return [
        caption[: found.start()] + other + caption[found.end() :]
        for alternatives in _REPLACEMENTS[mistake]
        for found in re.finditer(rf"\b({'|'.join(alternatives)})\b", caption)
        for other in alternatives
        if other != found.group()
    ]


def could_be_trained(caption: str) -> bool:
    """Return whether a scene of the split "train" could have this caption."""
    words = caption.split()
    kinds: list[Kind] = [
        (word, SINGULARS.get(following, following))
        for word, following in pairwise(words)
        if word in COLORS
    ]
    is_one_kind = len(kinds) == 1
    is_pair = len(set(kinds)) == 2 and frozenset(kinds) not in HELDOUT_PAIRS
    has_count = is_one_kind or "three" not in words  # three objects are of one kind
    return not set(kinds) & UNSEEN_KINDS and (is_one_kind or is_pair) and has_count
