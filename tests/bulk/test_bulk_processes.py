"""Captions by several processes, which may be killed at any time."""

import io
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from deadly import BrokenJob, DeadlyImage, DeadlyJob
from proc import find_descendants, wait_for_end
from random_captioner import draw_images, save_captioner

from cutline.batching import Caption
from cutline.bulk import processes
from cutline.bulk.engine import CaptionJob, caption_samples
from cutline.bulk.job import Result
from cutline.bulk.processes import caption_in_processes
from cutline.captioner import Captioner
from cutline.config import GenerationConfig, InferenceConfig
from cutline.data import Sample
from cutline.errors import CheckpointError, ConfigError, WorkerError

needs_sigkill = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
IMAGES = draw_images(8)


class ThreadsJob(CaptionJob):
    """Says how many threads a process has."""

    def load(self, device: str = "") -> Captioner:
        raise ConfigError(f"{device} has {torch.get_num_threads()} threads")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> CaptionJob:
    folder = tmp_path_factory.mktemp("bulk") / "model"
    save_captioner(folder)
    return CaptionJob(str(folder), inference=InferenceConfig("cpu", "fp32", batch_size=3))


def encode(number: int) -> bytes:
    buffer = io.BytesIO()
    IMAGES[number % len(IMAGES)].save(buffer, "PNG")
    return buffer.getvalue()


def make_samples(count: int) -> list[Sample]:
    """Return samples, some with prompts of their own."""
    prompts = (None, "a red ", "")
    return [Sample(encode(number), (), f"{number}", prompts[number % 3]) for number in range(count)]


def outcomes(results: Iterator[tuple[Sample, Result]]) -> dict[str, str | tuple[int, ...]]:
    """Return the tokens or the error of each sample; each must come once."""
    found: dict[str, str | tuple[int, ...]] = {}
    for sample, result in results:
        assert sample.id not in found
        found[sample.id] = result.token_ids if isinstance(result, Caption) else str(result)
    return found


def expected_of(job: CaptionJob, samples: list[Sample]) -> dict[str, str | tuple[int, ...]]:
    return outcomes(caption_samples(job.load(), job, iter(samples)))


@needs_sigkill
@pytest.mark.slow
def test_two_processes_give_the_captions_of_one_though_they_are_killed(
    job: CaptionJob, caplog: pytest.LogCaptureFixture
) -> None:
    """One captions, the other may still load."""
    samples = make_samples(60)
    samples[5] = replace(samples[5], image="missing.png")
    taken = 0

    def read() -> Iterator[Sample]:
        nonlocal taken
        for sample in samples:
            taken += 1
            yield sample

    def receive() -> Iterator[tuple[Sample, Result]]:
        for number, result in enumerate(caption_in_processes(read(), job, ["cpu", "cpu"])):
            assert taken - number <= 2 * 4 * 3 + 1
            if number == 6:
                for process in multiprocessing.active_children():
                    process.kill()
            yield result

    assert outcomes(receive()) == expected_of(job, samples)
    assert multiprocessing.active_children() == []
    assert "was killed by SIGKILL; it is started again" in caplog.text


@pytest.mark.slow
@needs_sigkill
def test_an_image_that_kills_processes_is_an_error(job: CaptionJob) -> None:
    samples = make_samples(20)
    others = [sample for sample in samples if sample.id != "7"]
    samples[7] = replace(samples[7], image=DeadlyImage())
    found = outcomes(caption_in_processes(iter(samples), job, ["cpu"]))
    assert str(found.pop("7")).startswith(
        r"killer\n.png: the process that captioned it was killed by SIGKILL"
    )
    assert found == expected_of(job, others)


@pytest.mark.slow
@needs_sigkill
def test_processes_that_die_of_all_images_are_an_error(
    job: CaptionJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_FRUITLESS_DEATHS", 2)
    samples = (replace(sample, image=DeadlyImage()) for sample in make_samples(9))
    with pytest.raises(WorkerError, match=r"SIGKILL, .* no image was captioned between 2 such"):
        list(caption_in_processes(samples, job, ["cpu"]))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        pytest.param(DeadlyJob, "was killed by SIGKILL", marks=[needs_sigkill, pytest.mark.slow]),
        pytest.param(BrokenJob, r"failed \(KeyError: 'weight'\)", marks=pytest.mark.slow),
    ],
)
def test_a_model_that_cannot_be_loaded_is_an_error(kind: type[CaptionJob], reason: str) -> None:
    with pytest.raises(WorkerError, match=f"on cpu {reason} before its model was loaded"):
        list(caption_in_processes(iter(make_samples(1)), kind("model"), ["cpu"]))


@pytest.mark.slow
def test_errors_of_the_model_and_the_settings_are_raised(job: CaptionJob, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(b"no weights")
    settings = GenerationConfig(max_length=1000)
    for wrong, kind in (
        (replace(job, model=str(tmp_path / "model.pth")), CheckpointError),
        (replace(job, generation=settings), ConfigError),
    ):
        with pytest.raises(kind) as one:
            list(caption_samples(wrong.load(), wrong, iter(make_samples(1))))
        with pytest.raises(kind) as several:
            list(caption_in_processes(iter(make_samples(1)), wrong, ["cpu"]))
        assert str(several.value) == str(one.value)


@pytest.mark.slow
def test_processes_share_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    counts = []
    for devices in (["cpu"], ["cpu"] * 2):
        with pytest.raises(ConfigError, match="cpu has") as error:
            list(caption_in_processes(iter(make_samples(1)), ThreadsJob("model"), devices))
        counts.append(int(str(error.value).split()[2]))
    assert counts[1] == max(1, counts[0] // 2)


def test_a_source_that_blocks_or_fails_holds_up_no_results(
    job: CaptionJob, capfd: pytest.CaptureFixture[str]
) -> None:
    samples, go_on = make_samples(2), threading.Event()

    def read() -> Iterator[Sample]:
        yield from samples
        go_on.wait(60)
        raise OSError("the network is down")

    results = caption_in_processes(read(), job, ["cpu"])
    found = outcomes(itertools.islice(results, 2))
    assert found == expected_of(job, samples)
    go_on.set()
    with pytest.raises(OSError, match="the network is down"):
        next(results)
    assert multiprocessing.active_children() == []
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_results_can_be_left(job: CaptionJob, capfd: pytest.CaptureFixture[str]) -> None:
    """The processes end at once: one is busy, one may still load."""
    endless = itertools.cycle(make_samples(8))
    results: Any = caption_in_processes(endless, job, ["cpu", "cpu"])
    next(results)
    start = time.monotonic()
    results.close()
    assert multiprocessing.active_children() == []
    assert time.monotonic() - start < 2
    assert capfd.readouterr().err == ""


def test_no_samples_need_no_processes(job: CaptionJob) -> None:
    assert list(caption_in_processes(iter([]), replace(job, model="none"), ["cpu"])) == []


PARENT = """
import itertools, sys
sys.path[:0] = {path!r}
from test_bulk_processes import CaptionJob, InferenceConfig, caption_in_processes, make_samples

if __name__ == "__main__":
    job = CaptionJob({model!r}, inference=InferenceConfig("cpu", batch_size=2, num_workers=1))
    try:
        for sample, result in caption_in_processes(itertools.cycle(make_samples(8)), job, ["cpu"]):
            print(result.text, flush=True)
    except KeyboardInterrupt:
        pass
"""


@pytest.fixture
def parent(job: CaptionJob, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a process that captions without end."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(path=sys.path, model=job.model))
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, script], stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    with process:
        yield process
        process.kill()


@pytest.mark.slow
@needs_proc
def test_processes_end_when_their_parent_is_killed(parent: subprocess.Popen[str]) -> None:
    assert parent.stdout
    parent.stdout.readline()
    pids = find_descendants(parent.pid)
    assert len(pids) >= 2  # one that captions, and one that opens images for it
    parent.kill()
    wait_for_end(pids, 2)
    assert parent.communicate()[1] == ""


@needs_proc
@pytest.mark.parametrize("when", ["loads", pytest.param("captions", marks=pytest.mark.slow)])
def test_ctrl_c_ends_all_processes_quietly(parent: subprocess.Popen[str], when: str) -> None:
    assert parent.stdout
    if when == "captions":
        parent.stdout.readline()
    while not find_descendants(parent.pid):
        time.sleep(0.01)
    pids = find_descendants(parent.pid)
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
    assert parent.communicate(timeout=20)[1] == ""
    assert parent.returncode == 0
    wait_for_end(pids, 2)  # those that opened images end after the one that they did it for


@pytest.mark.gpu
def test_gpus_give_the_captions_of_the_cpu(job: CaptionJob) -> None:
    count = torch.cuda.device_count()
    if count == 0:
        pytest.skip("needs a CUDA device")
    devices = [f"cuda:{min(number, count - 1)}" for number in range(2)]
    job = replace(job, inference=replace(job.inference, precision="fp32"))
    samples = make_samples(60)
    found = outcomes(caption_in_processes(iter(samples), job, devices))
    assert found == expected_of(job, samples)
