"""Inputs of the benchmarks: captioners and matchers with random weights, and images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from cutline.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, save_native
from cutline.config import CaptionConfig, MatchConfig
from cutline.model import CaptionModel, MatchModel
from cutline.tokenizer import Tokenizer

Array = npt.NDArray[np.uint8]

PHOTOGRAPH = (640, 480)
"""width and height of images that are read from files"""


def write_model(folder: Path, config: CaptionConfig, seed: int = 0) -> None:
    """Write the same captioner to `folder / "cutline"` and `folder / "huggingface"`."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    tokenizer = make_vocabulary(folder / "vocab.txt", config.text.vocab_size)
    # The initial weights give each image its own caption; larger ones would repeat one token.
    checkpoint = Checkpoint(
        replace(config, prompt="a picture of "), CaptionModel(config).state_dict(), tokenizer
    )
    save_checkpoint(folder / "cutline", checkpoint)
    save_checkpoint(folder / "huggingface", checkpoint, "huggingface")


def write_matcher(
    folder: Path, config: CaptionConfig, seed: int = 0, encoder_of: Path | None = None
) -> list[str]:
    """Write a matcher with the sizes of a captioner, and return words of its vocabulary.

    Args:
        folder: Where it is written.
        config: Sizes of the captioner.
        seed: Seed of the weights.
        encoder_of: A captioner whose vision encoder it shares.
    """
    torch.manual_seed(seed)
    vocabulary = folder.with_suffix(".txt")
    tokenizer = make_vocabulary(vocabulary, config.text.vocab_size)
    match_config = MatchConfig.from_caption_config(config)
    weights = MatchModel(match_config).state_dict()
    if encoder_of:
        shared = load_checkpoint(encoder_of).weights
        weights |= {name: w for name, w in shared.items() if name.startswith("vision.")}
    save_native(folder, Checkpoint(match_config, weights, tokenizer))
    return vocabulary.read_text(encoding="utf-8").splitlines()[7:]


def make_vocabulary(file: Path, size: int) -> Tokenizer:
    """Make a vocabulary of `size` tokens, [DEC] and [ENC] included, with the prompt's words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "picture", "of"]
    file.write_text(
        "\n".join([*words, *(f"word{number}" for number in range(size - 2 - len(words)))]),
        encoding="utf-8",
    )
    return Tokenizer.load(file)


def make_images(count: int, width: int, height: int, seed: int = 0) -> list[Array]:
    """Return smooth random images with a little noise, (height, width, 3) each."""
    random = np.random.default_rng(seed)
    return [_make_image(random, width, height) for _ in range(count)]


def _make_image(random: np.random.Generator, width: int, height: int) -> Array:
    colors = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(colors.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    return (smooth + random.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)


def write_photographs(folder: Path, images: Sequence[Array]) -> list[Path]:
    """Save images as JPEG files."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number:04d}.jpg" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        Image.fromarray(image).save(file, quality=90)
    return files
