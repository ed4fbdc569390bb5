"""How fast this machine can possibly be: products, reading memory, and the floor these put under a caption."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from peers import Search
from torch.nn.functional import linear

from cutline.config import CaptionConfig
from cutline.device import has_fast_bf16

PROMPT = 4
"""tokens of "[DEC] an image of" """


@dataclass(frozen=True)
class Ceilings:
    """The best this machine has shown."""

    fp32_gflops: float
    bf16_gflops: float
    memory_gb_per_s: float

    def best(self, other: "Ceilings") -> "Ceilings":
        """The higher of two measurements of each; other work on the machine can only lower them."""
        return Ceilings(
            max(self.fp32_gflops, other.fp32_gflops),
            max(self.bf16_gflops, other.bf16_gflops),
            max(self.memory_gb_per_s, other.memory_gb_per_s),
        )


def measure_ceilings(small: bool = False) -> Ceilings:
    """Products of an encoder's MLP at batch 8, and the sum over one GiB; `small` is for trying this script out."""
    rows, gib = (64, 1 / 64) if small else (4616, 1.0)
    slow_rows = (
        rows if has_fast_bf16(torch.device("cpu")) else min(rows, 577)
    )  # emulated, a larger product would take seconds
    seconds = 0.05 if small else 2.0
    numbers = torch.ones(int(gib * 2**30) // 4)
    return Ceilings(
        product_gflops(rows, torch.float32, seconds),
        product_gflops(slow_rows, torch.bfloat16, seconds),
        numbers.nbytes / shortest(numbers.sum, seconds) / 1e9,
    )


def product_gflops(rows: int, dtype: torch.dtype, seconds: float) -> float:
    """Of (rows, 768) and weights (3072, 768), as a linear layer has them: bf16 is 20 times slower the other way round."""
    x, weight = torch.randn(rows, 768).to(dtype), torch.randn(3072, 768).to(dtype)
    return 2 * rows * 768 * 3072 / shortest(lambda: linear(x, weight), seconds) / 1e9


def shortest(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the quickest run among those that fit into `seconds`, two at least."""
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@dataclass(frozen=True)
class Work:
    """What one part of a caption must do, per image."""

    flops: float
    bytes: float

    def seconds(self, gflops: float, gb_per_s: float) -> float:
        """No part is quicker than its products, nor than the reading of its numbers."""
        return max(self.flops / gflops, self.bytes / gb_per_s) / 1e9


def floor_seconds(
    config: CaptionConfig, precision: str, batch: int, search: Search, ceilings: Ceilings
) -> float | None:
    """The least seconds per image that this machine allows; None for a precision whose products were not measured."""
    # without units for them, bf16 numbers are quicker multiplied in fp32
    speeds = {"fp32": ceilings.fp32_gflops, "bf16": max(ceilings.fp32_gflops, ceilings.bf16_gflops)}
    if precision not in speeds:
        return None
    width = 4 if precision == "fp32" else 2
    parts = (
        encoder_work(config, width, batch),
        keys_values_work(config, width, batch),
        decoder_work(config, width, batch, search),
    )
    return sum(part.seconds(speeds[precision], ceilings.memory_gb_per_s) for part in parts)


def encoder_work(config: CaptionConfig, width: int, batch: int) -> Work:
    """Patches, linear layers and attention; the weights, `width` bytes each, are read once per batch."""
    vision = config.vision
    tokens, dim = vision.num_tokens, vision.embed_dim
    patches = 3 * vision.patch_size**2 * dim
    layers = vision.depth * (4 + 2 * vision.mlp_ratio) * dim**2
    attention = vision.depth * 4 * tokens**2 * dim
    return Work(
        2 * (tokens - 1) * patches + 2 * tokens * layers + attention,
        width * (patches + layers) / batch,
    )


def keys_values_work(config: CaptionConfig, width: int, batch: int) -> Work:
    """The image's keys and values for every layer of the decoder, made once and written once."""
    weights = config.text.depth * 2 * config.vision.embed_dim * config.text.embed_dim
    return Work(
        2 * config.vision.num_tokens * weights, width * (weights / batch + picture_numbers(config))
    )


def decoder_work(config: CaptionConfig, width: int, batch: int, search: Search) -> Work:
    """All steps: the first reads the prompt for one beam, the others one token for each; all read weights, keys and values."""
    text = config.text
    steps = search.length - PROMPT
    rows, predicted = PROMPT + (steps - 1) * search.num_beams, 1 + (steps - 1) * search.num_beams
    layers = text.depth * (6 * text.embed_dim**2 + 2 * text.embed_dim * text.mlp_dim)
    head = text.embed_dim**2 + text.embed_dim * text.vocab_size
    flops = 2 * rows * layers + 2 * predicted * head + 2 * rows * picture_numbers(config)
    return Work(flops, width * steps * ((layers + head) / batch + picture_numbers(config)))


def picture_numbers(config: CaptionConfig) -> int:
    """Numbers in the keys and values of one image."""
    return config.text.depth * 2 * config.vision.num_tokens * config.text.embed_dim
