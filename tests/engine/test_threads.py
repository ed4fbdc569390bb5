"""The number of OpenMP threads: its choice, its limit, and that it is always restored."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier, Event

import pytest
import torch

from cutline.config import MAX_TEXT_TOKENS, CaptionConfig
from cutline.engine import (
    choose_num_threads,
    choose_text_threads,
    limit_threads,
    prepare_model,
)
from cutline.model import CaptionModel

TINY = CaptionConfig.preset("tiny")


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    """Set a number that differs from every limit here, and from that of other tests."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def num_threads_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


@pytest.mark.parametrize("name", ["base", "large"])
def test_published_models_use_all_threads(name: str) -> None:
    assert choose_num_threads(CaptionConfig.preset(name)) is None


def test_small_models_use_one_thread() -> None:
    assert choose_num_threads(TINY) == 1
    wider = replace(TINY, vision=replace(TINY.vision, embed_dim=2048))
    assert choose_num_threads(wider) is None
    deeper = replace(TINY, text=replace(TINY.text, depth=200))
    assert choose_num_threads(deeper) is None


def test_a_single_question_is_encoded_with_one_thread() -> None:
    base = CaptionConfig.preset("base")
    assert choose_text_threads(base, MAX_TEXT_TOKENS) == 1
    assert choose_text_threads(base, 64 * MAX_TEXT_TOKENS) is None


def test_blocks_can_be_nested() -> None:
    with limit_threads(2):
        assert torch.get_num_threads() == 2
        with limit_threads(1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        for more in (None, 5):
            with limit_threads(more):
                assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 3


def test_an_error_restores_the_number() -> None:
    with pytest.raises(KeyError), limit_threads(1):
        raise KeyError
    assert torch.get_num_threads() == num_threads_of_a_new_thread() == 3


@pytest.mark.parametrize("count", [3, 8, None])
def test_a_number_that_fits_is_not_set(monkeypatch: pytest.MonkeyPatch, count: int | None) -> None:
    def refuse(_: int) -> None:
        raise AssertionError("set")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "set_num_threads", refuse)
        with limit_threads(count):
            pass


def test_a_thread_that_starts_during_a_block_gets_the_original_number() -> None:
    """PyTorch initializes its number with the limit of the other thread."""

    def run() -> list[int]:
        counts = []
        for count in (1, None):
            with limit_threads(count):
                counts.append(torch.get_num_threads())
        return [*counts, torch.get_num_threads()]

    with ThreadPoolExecutor(1) as pool, limit_threads(1):
        assert pool.submit(run).result() == [1, 3, 3]


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_overlapping_blocks_restore_the_number(first_to_leave: int) -> None:
    entered, may_leave = Barrier(3), [Event(), Event()]

    def run(index: int) -> tuple[int, int]:
        with limit_threads(1):
            entered.wait(20)
            may_leave[index].wait(20)
            inside = torch.get_num_threads()
        return inside, torch.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(run, index) for index in range(2)]
        entered.wait(20)
        for index in (first_to_leave, 1 - first_to_leave):
            may_leave[index].set()
            assert results[index].result() == (1, 3)
    assert torch.get_num_threads() == num_threads_of_a_new_thread() == 3


def test_many_threads_restore_the_number() -> None:
    def run(count: int) -> bool:
        with limit_threads(count):
            limited = torch.get_num_threads() == count
            torch.ones(10) + 1
        return limited and torch.get_num_threads() == 3

    for _ in range(20):  # new threads, whose number PyTorch initializes
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(run, [1, 2] * 50))
    assert torch.get_num_threads() == num_threads_of_a_new_thread() == 3


def test_the_graph_of_a_small_model_is_compiled_for_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compiled code contains the number of its threads."""
    counts = []

    def compile_vision(vision: torch.nn.Module) -> torch.nn.Module:
        counts.append(torch.get_num_threads())
        return vision

    monkeypatch.setattr("cutline.engine.compiled.compile_vision", compile_vision)
    prepare_model(CaptionModel(TINY), torch.device("cpu"), "fp32", "compiled")
    assert counts == [1]
    assert torch.get_num_threads() == 3
