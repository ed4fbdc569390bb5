"""`FilterJob` as engines run it: as samples come, in several processes, and in an actor."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filter_data import Texts
from random_captioner import make_captioner
from random_matcher import make_matcher

from cutline.bulk.actor import CaptionActor
from cutline.bulk.engine import caption_samples
from cutline.bulk.job import Result, TextSelection
from cutline.bulk.processes import caption_in_processes
from cutline.capfilt import FilterJob
from cutline.capfilt.batches import batch_samples
from cutline.capfilt.job import Candidates, FilterModels
from cutline.config import CaptionerOptions, GenerationConfig, InferenceConfig, MatcherOptions
from cutline.data import Sample
from cutline.errors import ConfigError, DataError, ImageError
from cutline.matcher import Matcher, MatchScores


@pytest.fixture(params=["filter", "capfilt"])
def job(request: pytest.FixtureRequest, models: Path) -> FilterJob:
    job = FilterJob(
        MatcherOptions(str(models / "matcher")),
        inference=InferenceConfig("cpu", "fp32", batch_size=3),
    )
    if request.param == "filter":
        return job
    return replace(job, captioner=CaptionerOptions(str(models / "captioner")))


@pytest.fixture
def samples(scenes: list[Path], texts: Texts) -> list[Sample]:
    return [Sample(str(path), tuple(texts[path.stem]), path.stem) for path in scenes]


def describe(result: Result) -> object:
    """Return the texts and rounded scores of a result, or its error."""
    if not isinstance(result, TextSelection):
        return str(result)
    rows = [*result.kept, {}, *result.dropped]
    return [(row.get("caption"), row.get("origin"), round(row.get("itm", 0), 3)) for row in rows]


def outcomes(results: Iterator[tuple[Sample, Result]]) -> dict[str, object]:
    """Return what came of each sample, which must come once."""
    found: dict[str, object] = {}
    for sample, result in results:
        assert sample.id not in found
        found[sample.id] = describe(result)
    return found


def test_each_result_comes_before_the_next_sample_is_read(
    job: FilterJob, samples: list[Sample]
) -> None:
    go_on = threading.Event()

    def read() -> Iterator[Sample]:
        for sample in samples:
            assert go_on.wait(60)
            go_on.clear()
            yield sample

    go_on.set()
    count = 0
    for result in job.stream(job.load(), read(), 4):
        assert result.index == count
        count += 1
        go_on.set()
    assert count == len(samples)


@pytest.mark.parametrize(
    "job", [pytest.param("filter", marks=pytest.mark.slow), "capfilt"], indirect=True
)
@pytest.mark.parametrize("num_processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_other_processes_give_the_results_of_this_one(
    job: FilterJob, samples: list[Sample], num_processes: int
) -> None:
    samples[5] = replace(samples[5], image="missing.png")
    samples[7] = replace(samples[7], captions=())
    expected = outcomes(caption_samples(job.load(), job, iter(samples)))
    found = outcomes(caption_in_processes(iter(samples), job, ["cpu"] * num_processes))
    assert found.keys() == {sample.id for sample in samples}
    if job.captioner.captioner:
        found["scene-000005"] = expected["scene-000005"]  # it has another number
    else:
        found["scene-000007"] = expected["scene-000007"]
    assert found == expected


class LoadedJob(FilterJob):
    """A job whose models need no files."""

    def load(self, device: str = "") -> FilterModels:
        return FilterModels(make_matcher(), make_captioner())


def test_an_actor_gives_the_same(samples: list[Sample], tmp_path: Path) -> None:
    job = LoadedJob(
        MatcherOptions("matcher"), inference=InferenceConfig("cpu", "fp32", batch_size=3)
    )
    expected = [describe(result) for _, result in caption_samples(job.load(), job, iter(samples))]
    num_threads = torch.get_num_threads()
    actor = CaptionActor(job, "cpu", 1, tmp_path / "of another machine")
    actor.load()
    threading.Thread(target=actor.run, daemon=True).start()
    assert list(map(describe, actor.caption(samples[:1]))) == expected[:1]
    assert list(map(describe, actor.caption(samples[1:]))) == expected[1:]
    torch.set_num_threads(num_threads)


def test_settings_that_have_no_effect_are_refused(job: FilterJob) -> None:
    with pytest.raises(ConfigError, match="token_log_probs has no effect"):
        replace(job, generation=GenerationConfig(token_log_probs=True))


def test_errors_are_results_with_the_number_of_their_sample(
    job: FilterJob, samples: list[Sample]
) -> None:
    samples[2] = replace(samples[2], image=b"no image")
    samples[9] = replace(samples[9], image="gone.png", captions=())
    results = list(job.stream(job.load(), iter(samples), 2))
    assert [result.index for result in results] == list(range(len(samples)))
    assert isinstance(results[2], ImageError)
    assert isinstance(results[9], ImageError)


def test_a_matcher_whose_weights_are_damaged_fails_each_image(
    job: FilterJob, samples: list[Sample]
) -> None:
    models = job.load()
    with torch.no_grad():
        models.scorer.model.itm_head.weight.fill_(float("nan"))
    results = list(job.stream(models, iter(samples), 4))
    assert all("is NaN" in str(result) for result in results)


def test_a_source_that_fails_raises_its_error(job: FilterJob, samples: list[Sample]) -> None:
    def read() -> Iterator[Sample]:
        yield from samples[:3]
        raise DataError("the network is down")

    results = job.stream(job.load(), read(), 2)
    assert len([next(results) for _ in range(3)]) == 3
    with pytest.raises(DataError, match="the network is down"):
        next(results)


def test_batches_have_all_samples_in_order(samples: list[Sample]) -> None:
    batches = list(batch_samples(iter(samples), 5))
    assert [sample for batch in batches for sample in batch] == samples
    assert max(map(len, batches)) <= 5
    assert list(batch_samples(iter([]), 5)) == []


def test_matcher_streams_sequences_in_full_batches_and_others_as_they_come(
    matcher: Matcher, scenes: list[Path]
) -> None:
    inputs = [(path, ["a red star", "two"]) for path in scenes]
    whole = list(matcher.stream(inputs, batch_size=5))
    one_by_one = list(matcher.stream(iter(inputs), batch_size=5))
    for first, second in zip(whole, one_by_one, strict=True):
        assert first.index == second.index
        assert first.itm == pytest.approx(second.itm, abs=1e-5)  # type: ignore[union-attr]


def test_an_image_without_any_text_is_a_failure_that_says_why(
    job: FilterJob, samples: list[Sample]
) -> None:
    result = job.select_texts(Candidates(samples[0].image, [], 0), MatchScores((), ()))
    reason = "captioner writes an empty one" if job.captioner.captioner else "`cutline caption`"
    assert isinstance(result, DataError)
    assert reason in str(result)


def test_each_model_has_a_fingerprint(job: FilterJob) -> None:
    names = ["captioner", "matcher"] if job.captioner.captioner else ["matcher"]
    assert list(job.fingerprints) == names
    assert len(set(job.fingerprints.values())) == len(names)


def test_options_of_a_captioner_need_one() -> None:
    with pytest.raises(ConfigError, match="no effect without a captioner"):
        CaptionerOptions(captioner_config="base")
