"""The number of OpenMP threads that a model runs with on a CPU.

Threads wait for each other after every operation. If another process keeps one of them from
running, the others wait for milliseconds, which is a hundred times as long as an operation of a
small model takes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, local

import torch

from cutline.config import CaptionConfig, MatchConfig

SMALL_MODEL = 2e9  # FLOP per caption; with fewer, a second thread saves less than a quarter
SMALL_CALL = 6e9  # FLOP of a call; beside other work, a second thread costs more than it saves
TOKENS_PER_CAPTION = 48  # 16 steps with 3 beams, the default


def choose_num_threads(config: CaptionConfig | MatchConfig) -> int | None:
    """Return the largest number of threads that a model should use: 1 if it is small, else None."""
    return 1 if estimate_flops(config) < SMALL_MODEL else None


def choose_text_threads(config: CaptionConfig | MatchConfig, num_tokens: int) -> int | None:
    """Return the largest number of threads that encoding texts of so many tokens should use.

    It is 1 for less than SMALL_CALL, as one query to an index is, else None.
    """
    text = config.text
    layer_weights = (4 * text.embed_dim + 2 * text.mlp_dim) * text.embed_dim
    return 1 if 2 * num_tokens * text.depth * layer_weights < SMALL_CALL else None


def estimate_flops(config: CaptionConfig | MatchConfig) -> float:
    """Estimate the FLOP of the linear layers for one caption."""
    vision, text = config.vision, config.text
    block_weights = (4 + 2 * vision.mlp_ratio) * vision.embed_dim**2
    layer_weights = (6 * text.embed_dim + 2 * text.mlp_dim) * text.embed_dim
    text_weights = text.depth * layer_weights + text.vocab_size * text.embed_dim
    products = vision.num_tokens * vision.depth * block_weights + TOKENS_PER_CAPTION * text_weights
    return 2 * products


@dataclass
class _Limits:
    """The blocks of `limit_threads` that have lowered the number of threads."""

    active: int = 0
    original: int = 0
    """the number of threads outside of them"""


_limits = _Limits()
_lock = Lock()
_this_thread = local()


@contextmanager
def limit_threads(count: int | None) -> Iterator[None]:
    """Use at most `count` OpenMP threads in this block (None: no limit).

    The limit is for the calling Python thread. Blocks may be nested, and may overlap in several
    Python threads.
    """
    with _lock:
        before = _own_num_threads()
        target = before if count is None else min(count, before)
        if target < before:
            _limits.original = _limits.original if _limits.active else before
            _limits.active += 1
        _set_num_threads(target)
    try:
        yield
    finally:
        with _lock:
            _limits.active -= target < before
            _set_num_threads(before)


def _own_num_threads() -> int:
    """Return the number of threads that the calling Python thread has without a limit."""
    count = torch.get_num_threads()
    # PyTorch initializes the number of a new Python thread with the last one that was set in any.
    # During a block of another thread, that is its limit.
    is_new = not hasattr(_this_thread, "is_known")
    _this_thread.is_known = True
    return max(count, _limits.original) if is_new and _limits.active else count


def _set_num_threads(count: int) -> None:
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
