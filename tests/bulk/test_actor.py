"""The captioner in a process of a cluster."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from random_captioner import draw_images, make_captioner

from cutline.batching import Caption
from cutline.bulk.actor import CaptionActor
from cutline.bulk.engine import CaptionJob, Models
from cutline.bulk.job import Result
from cutline.config import GenerationConfig, InferenceConfig
from cutline.data import Sample
from cutline.errors import ConfigError, ImageError


class LoadedJob(CaptionJob):
    """A job whose models need no files."""

    def load(self, device: str = "") -> Models:
        return Models(make_captioner())


JOB = LoadedJob("", inference=InferenceConfig("cpu", "fp32", batch_size=4))


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """Return samples whose paths are relative to `tmp_path`."""
    monkeypatch.chdir("/")  # restored after the test, in which an actor changes it
    for index, image in enumerate(draw_images(10)):
        image.save(tmp_path / f"{index}.png")
    return [Sample(f"{index}.png", (), str(index)) for index in range(10)]


@pytest.fixture
def actor(tmp_path: Path, samples: list[Sample]) -> Iterator[CaptionActor]:
    num_threads = torch.get_num_threads()
    actor = CaptionActor(JOB, "cpu", 1, tmp_path)
    actor.load()
    # It runs without end: the process of an actor is killed.
    threading.Thread(target=actor.run, daemon=True).start()
    yield actor
    torch.set_num_threads(num_threads)


def texts(results: list[Result]) -> list[str]:
    assert all(isinstance(result, Caption) for result in results), results
    return [result.text for result in results if isinstance(result, Caption)]


def test_the_stream_needs_no_full_batch(actor: CaptionActor, samples: list[Sample]) -> None:
    expected = [caption.text for caption in make_captioner().caption(draw_images(10))]
    assert texts(actor.caption(samples[:1])) == expected[:1]
    assert actor.caption([]) == []
    assert texts(actor.caption(samples)) == expected


def test_concurrent_calls_get_their_own_results(actor: CaptionActor, samples: list[Sample]) -> None:
    expected = [caption.text for caption in make_captioner().caption(draw_images(10))]
    parts = [slice(0, 3), slice(3, 10), slice(5, 6), slice(0, 10), slice(2, 4)]
    with ThreadPoolExecutor(len(parts)) as pool:
        found = list(pool.map(lambda part: texts(actor.caption(samples[part])), parts))
    assert found == [expected[part] for part in parts]


def test_an_unreadable_image_is_a_result(actor: CaptionActor, samples: list[Sample]) -> None:
    bad = [replace(samples[0], image="gone.png"), replace(samples[0], image=b"text")]
    first, caption, last = actor.caption([bad[0], samples[0], bad[1]])
    assert isinstance(first, ImageError)
    assert "gone.png" in str(first)
    assert isinstance(last, ImageError)
    assert isinstance(caption, Caption)


def test_a_setting_that_does_not_fit_ends_the_run(tmp_path: Path, samples: list[Sample]) -> None:
    job = replace(JOB, generation=GenerationConfig(max_length=400))
    actor = CaptionActor(job, "cpu", 1, tmp_path / "of another machine")
    actor.load()
    with pytest.raises(ConfigError, match="max_length 400"):
        actor.run()
