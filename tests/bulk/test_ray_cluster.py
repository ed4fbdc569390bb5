"""Captions by the actors of a real Ray cluster on this machine, which may be killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import deadly
import pytest
from deadly import BrokenJob, DeadlyImage, DeadlyJob
from proc import find_descendants, wait_for_end
from random_captioner import draw_images, save_captioner

from cutline.batching import Caption
from cutline.bulk.engine import CaptionJob, caption_samples
from cutline.bulk.job import Result
from cutline.bulk.ray_cluster import caption_on_ray
from cutline.bulk.ray_connection import connect_ray
from cutline.config import GenerationConfig, InferenceConfig
from cutline.data import Sample
from cutline.errors import CheckpointError, ConfigError, ImageError, WorkerError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]

NUM_IMAGES = 40
ACTOR = "ray::CaptionActor"


@pytest.fixture(scope="module", autouse=True)
def ray() -> ModuleType:
    """Import Ray, which takes a second; its actors cannot import `deadly`."""
    module = import_module("ray")
    module.cloudpickle.register_pickle_by_value(deadly)
    return module


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> CaptionJob:
    """Return a job; its folder has images, too."""
    folder = tmp_path_factory.mktemp("job")
    save_captioner(folder / "model")
    for index, image in enumerate(draw_images(NUM_IMAGES)):
        image.save(folder / f"{index}.png")
    return CaptionJob(str(folder / "model"), inference=InferenceConfig("cpu", "fp32", batch_size=2))


@pytest.fixture(scope="module")
def samples(job: CaptionJob) -> list[Sample]:
    folder = Path(job.model).parent
    samples = [Sample(str(folder / f"{index}.png"), (), str(index)) for index in range(NUM_IMAGES)]
    samples[3] = Sample("gone.png", (), "gone")
    samples[5] = Sample(Path(str(samples[5].image)).read_bytes(), (), "bytes", prompt="a star")
    return samples


@pytest.fixture(scope="module")
def expected(job: CaptionJob, samples: list[Sample]) -> dict[str, str]:
    return to_texts(caption_samples(job.load(), job, iter(samples)))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with connect_ray("local", 2):
        yield


def to_texts(results: Iterator[tuple[Sample, Result]]) -> dict[str, str]:
    """Return the text, or the message of the error, of each sample, which must come once."""
    texts: dict[str, str] = {}
    for sample, result in results:
        assert sample.id not in texts
        texts[sample.id] = result.text if isinstance(result, Caption) else str(result)
    return texts


@pytest.mark.slow
def test_results_are_those_of_this_process(
    ray: ModuleType,
    job: CaptionJob,
    samples: list[Sample],
    expected: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(Path(job.model).parent)
    relative = replace(job, model="model")
    samples = [replace(samples[0], image=Path(str(samples[0].image)).name), *samples[1:]]
    assert to_texts(caption_on_ray(iter(samples), relative, num_actors=2)) == expected
    assert not ray.is_initialized()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert capfd.readouterr().out == ""


def test_no_samples_need_no_cluster(job: CaptionJob) -> None:
    assert list(caption_on_ray(iter([]), job, "no address")) == []


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_killed_actor_is_replaced(
    job: CaptionJob,
    samples: list[Sample],
    expected: dict[str, str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    def kill_one(results: Iterator[tuple[Sample, Result]]) -> Iterator[tuple[Sample, Result]]:
        for count, result in enumerate(results):
            if count == 3:
                os.kill(find_processes(os.getpid(), ACTOR)[0], signal.SIGKILL)
            yield result

    many = [replace(s, id=f"{turn} {s.id}") for turn in range(5) for s in samples]
    found = to_texts(kill_one(caption_on_ray(iter(many), job, num_actors=2)))
    assert found == {sample.id: expected[sample.id.split()[1]] for sample in many}
    assert capfd.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_sample_that_kills_its_actors_is_given_up(
    job: CaptionJob, samples: list[Sample], expected: dict[str, str]
) -> None:
    some = [*samples[:7], Sample(DeadlyImage(), (), "killer"), *samples[7:]]
    found = {s.id: result for s, result in caption_on_ray(iter(some), job, num_actors=2)}
    error = found.pop("killer")
    assert isinstance(error, ImageError)
    assert str(error).startswith(r"killer\n.png: the process that captioned it died 3 times")
    texts = {id: r.text if isinstance(r, Caption) else str(r) for id, r in found.items()}
    assert texts == expected


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_what_no_actor_can_load_is_an_error(
    job: CaptionJob, samples: list[Sample], tmp_path: Path
) -> None:
    def fail(job: CaptionJob, error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match):
            list(caption_on_ray(iter(samples), job, num_actors=1))

    (tmp_path / "model.pth").write_bytes(b"no weights")
    fail(replace(job, model=str(tmp_path / "model.pth")), CheckpointError, "model.pth")
    fail(replace(job, generation=GenerationConfig(max_length=400)), ConfigError, "max_length 400")
    fail(DeadlyJob("", inference=job.inference), WorkerError, "its worker process has died")
    fail(BrokenJob("", inference=job.inference), KeyError, "weight")
    cuda = replace(job, inference=InferenceConfig("cuda"))
    with pytest.raises(ConfigError, match="has no GPU"):
        list(caption_on_ray(iter(samples), cuda))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_run_waits_for_a_full_cluster_and_says_so(
    ray: ModuleType,
    job: CaptionJob,
    samples: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Other:
        def start(self) -> None:
            pass

    monkeypatch.setattr("cutline.bulk.ray_cluster.PATIENCE", 1.0)
    other = ray.remote(num_cpus=2)(Other).remote()
    ray.get(other.start.remote())
    timer = threading.Timer(3.0, ray.kill, [other])
    timer.start()
    assert len(list(caption_on_ray(iter(samples[:2]), job, num_actors=1))) == 2
    timer.join()
    assert "no actor has started yet; each needs 2 CPU cores" in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_few_samples_are_taken_ahead_and_a_closed_run_ends_its_actors(
    ray: ModuleType, job: CaptionJob, samples: list[Sample]
) -> None:
    taken = 0

    def endless() -> Iterator[Sample]:
        nonlocal taken
        while True:
            taken += 1
            yield samples[taken % 3]

    results = caption_on_ray(endless(), job, num_actors=2)
    for count, _ in enumerate(results, 1):
        assert taken - count <= 2 * 3 * 2 * job.inference.batch_size
        if count == 100:
            break
    results.close()  # type: ignore[attr-defined]
    assert ray.is_initialized()  # it was before
    wait_for_end(find_processes(os.getpid(), ACTOR), 120)


SCRIPT = """
import itertools, os, sys
from cutline.bulk.engine import CaptionJob
from cutline.bulk.ray_cluster import caption_on_ray
from cutline.config import InferenceConfig
from cutline.data import Sample
from cutline.interrupt import Interrupted, interrupt_on_signals

if __name__ == "__main__":
    interrupt_on_signals()
    job = CaptionJob(sys.argv[1], inference=InferenceConfig("cpu", "fp32"))
    samples = itertools.repeat(Sample(sys.argv[2], (), "1"))
    try:
        for count, result in enumerate(caption_on_ray(samples, job, num_actors=1)):
            if not count:
                print("captioned", flush=True)
    except Interrupted as error:
        sys.exit(128 + error.signal_number)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_stops_its_cluster(
    job: CaptionJob, samples: list[Sample], tmp_path: Path, number: signal.Signals
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script, job.model, str(samples[0].image)]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout
        assert process.stdout.readline() == "captioned\n"
        # Ray's agents end a minute later if they are killed.
        processes = find_processes(process.pid, "/raylet/", "/gcs_server", ACTOR)
        assert len(processes) >= 3
        process.send_signal(number)
        code = process.wait(60)
    assert code == (-number if number == signal.SIGKILL else 128 + number)
    wait_for_end(processes, 120)


def find_processes(parent: int, *words: str) -> list[int]:
    """Return the processes below `parent` whose command has one of the words."""
    commands = {pid: Path(f"/proc/{pid}/cmdline") for pid in find_descendants(parent)}
    texts = {pid: path.read_text() for pid, path in commands.items() if path.exists()}
    return [pid for pid, text in texts.items() if any(word in text for word in words)]
