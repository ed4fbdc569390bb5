"""The roofline of this machine: peak matrix products and memory reads, and what they imply."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from runners import Search
from torch.nn.functional import linear

from cutline.config import CaptionConfig
from cutline.device import has_native_bf16

PROMPT = 4
"""tokens of "[DEC] a picture of" """


@dataclass(frozen=True)
class Roofline:
    """Peak rates measured on this machine."""

    fp32_gflops: float
    bf16_gflops: float
    memory_gb_per_s: float

    def best(self, other: "Roofline") -> "Roofline":
        """Return the higher rates of two measurements: other work can only lower them."""
        return Roofline(
            max(self.fp32_gflops, other.fp32_gflops),
            max(self.bf16_gflops, other.bf16_gflops),
            max(self.memory_gb_per_s, other.memory_gb_per_s),
        )


def measure_roofline(small: bool = False) -> Roofline:
    """Measure products of an encoder MLP at batch 8, and the sum over one GiB.

    Args:
        small: Use small sizes, to test this script.
    """
    rows, gib = (64, 1 / 64) if small else (4616, 1.0)
    slow_rows = (
        rows if has_native_bf16(torch.device("cpu")) else min(rows, 577)
    )  # an emulated larger product takes seconds
    seconds = 0.05 if small else 2.0
    numbers = torch.ones(int(gib * 2**30) // 4)
    return Roofline(
        measure_product(rows, torch.float32, seconds),
        measure_product(slow_rows, torch.bfloat16, seconds),
        numbers.nbytes / shortest_seconds(numbers.sum, seconds) / 1e9,
    )


def measure_product(rows: int, dtype: torch.dtype, seconds: float) -> float:
    """Measure the linear layer (rows, 768) x (3072, 768); the transposed one is slower in bf16."""
    x, weight = torch.randn(rows, 768).to(dtype), torch.randn(3072, 768).to(dtype)
    return 2 * rows * 768 * 3072 / shortest_seconds(lambda: linear(x, weight), seconds) / 1e9


def shortest_seconds(work: Callable[[], object], seconds: float) -> float:
    """Return the time of the fastest run among those that fit into `seconds`, at least two."""
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@dataclass(frozen=True)
class Cost:
    """Operations and memory traffic of one part of a caption, per image."""

    flops: float
    bytes: float

    def seconds(self, gflops: float, gb_per_s: float) -> float:
        """Return the least time: the larger of computation and memory traffic."""
        return max(self.flops / gflops, self.bytes / gb_per_s) / 1e9


def minimum_seconds(
    config: CaptionConfig, precision: str, batch: int, search: Search, roofline: Roofline
) -> float | None:
    """Return the least seconds per image, or None for a precision that was not measured."""
    # without native bf16, products are faster in fp32
    speeds = {"fp32": roofline.fp32_gflops, "bf16": max(roofline.fp32_gflops, roofline.bf16_gflops)}
    if precision not in speeds:
        return None
    width = 4 if precision == "fp32" else 2
    parts = (
        encoder_cost(config, width, batch),
        keys_values_cost(config, width, batch),
        decoder_cost(config, width, batch, search),
    )
    return sum(part.seconds(speeds[precision], roofline.memory_gb_per_s) for part in parts)


def encoder_cost(config: CaptionConfig, width: int, batch: int) -> Cost:
    """Return the cost of the encoder; its weights, `width` bytes each, are read once per batch."""
    vision = config.vision
    tokens, dim = vision.num_tokens, vision.embed_dim
    patches = 3 * vision.patch_size**2 * dim
    layers = vision.depth * (4 + 2 * vision.mlp_ratio) * dim**2
    attention = vision.depth * 4 * tokens**2 * dim
    return Cost(
        2 * (tokens - 1) * patches + 2 * tokens * layers + attention,
        width * (patches + layers) / batch,
    )


def keys_values_cost(config: CaptionConfig, width: int, batch: int) -> Cost:
    """Return the cost of the cross-attention keys and values, computed and written once."""
    weights = config.text.depth * 2 * config.vision.embed_dim * config.text.embed_dim
    return Cost(
        2 * config.vision.num_tokens * weights,
        width * (weights / batch + count_image_values(config)),
    )


def decoder_cost(config: CaptionConfig, width: int, batch: int, search: Search) -> Cost:
    """Return the cost of all decoding steps.

    The first step reads the prompt with one beam, each later one a token per beam. All of them read
    the weights, keys and values.
    """
    text = config.text
    steps = search.length - PROMPT
    rows, predicted = PROMPT + (steps - 1) * search.num_beams, 1 + (steps - 1) * search.num_beams
    layers = text.depth * (6 * text.embed_dim**2 + 2 * text.embed_dim * text.mlp_dim)
    head = text.embed_dim**2 + text.embed_dim * text.vocab_size
    flops = 2 * rows * layers + 2 * predicted * head + 2 * rows * count_image_values(config)
    return Cost(flops, width * steps * ((layers + head) / batch + count_image_values(config)))


def count_image_values(config: CaptionConfig) -> int:
    """Return the number of values in the keys and values of one image."""
    return config.text.depth * 2 * config.vision.num_tokens * config.text.embed_dim
