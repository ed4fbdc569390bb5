"""`RandomSamples`: which samples are chosen."""

import random

from cutline.bulk.random_samples import RandomSamples
from cutline.data import Sample


def choose(ids: list[str], size: int) -> list[str]:
    chosen = RandomSamples(size)
    for id in ids:
        chosen.add(Sample(f"{id}.png", (), id))
    return [sample.id for sample in chosen]


def test_the_choice_does_not_depend_on_the_order_nor_on_repeated_ids() -> None:
    ids = [str(number) for number in range(200)]
    expected = choose(ids, 9)
    assert len(set(expected)) == len(expected) == 9
    for seed in range(20):
        shuffled = ids + ids[::3]
        random.Random(seed).shuffle(shuffled)
        assert choose(shuffled, 9) == expected
    assert choose(ids[:4] * 3, 9) == sorted(ids[:4])
