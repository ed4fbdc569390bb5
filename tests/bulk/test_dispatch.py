"""Engines that yield results in another order than that of the samples."""

import random
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from cutline.batching import Caption
from cutline.bulk.dispatch import in_order
from cutline.bulk.job import Result
from cutline.data import Sample


@given(st.integers(0, 30), st.integers(1, 8), st.integers(0, 999))
def test_results_come_in_the_order_of_the_samples(count: int, ahead: int, seed: int) -> None:
    rng = random.Random(seed)

    def engine(samples: Iterator[Sample]) -> Iterator[tuple[Sample, Result]]:
        waiting: list[Sample] = []
        for sample in samples:
            waiting.append(sample)
            if len(waiting) >= ahead:
                done = waiting.pop(rng.randrange(len(waiting)))
                yield done, Caption(done.id, 0.0, ())
        rng.shuffle(waiting)
        for sample in waiting:
            yield sample, Caption(sample.id, 0.0, ())

    samples = [Sample(b"", (), str(number)) for number in range(count)]
    results = list(in_order(engine, iter(samples)))
    assert [sample for sample, _ in results] == samples
    assert [getattr(result, "text", "") for _, result in results] == [each.id for each in samples]
