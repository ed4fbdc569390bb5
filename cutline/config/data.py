"""The images and captions of a run."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from cutline.config.validation import require, require_choices

Cleaning = Literal["blip", "none"]
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
"""where a prompt template holds the value of a column: `{style}`"""


@dataclass(frozen=True)
class Columns:
    """The columns of tables that are called otherwise than usual, and those that prompts are made of."""

    image: str = ""
    """column of the images (default: file_name, image and the like)"""
    caption: str = ""
    """column of the captions (default: captions, caption, text and the like)"""
    prompt: str = ""
    """column of the prompts (default: prompt, where there is one)"""
    template: str = ""
    """prompt with columns in braces, such as "a {style} photo of" """

    def __post_init__(self) -> None:
        require(
            not (self.prompt and self.template),
            "prompt_column and prompt_template are both given: leave one out",
        )
        if self.template:
            require(
                bool(PLACEHOLDER.search(self.template)),
                f"prompt_template {self.template!r} names no column: write it in braces, as {{style}}",
            )
            odd = set("{}") & set(PLACEHOLDER.sub("", self.template))
            require(
                not odd,
                f"prompt_template {self.template!r} has a brace too many: put each column between two",
            )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every column named here."""
        return (
            *filter(None, (self.image, self.caption, self.prompt)),
            *PLACEHOLDER.findall(self.template),
        )


@dataclass(frozen=True)
class DataConfig:
    """The images and captions, and what is done to them."""

    train: str = ""
    """training data: JSONL, CSV, Parquet, COCO or Karpathy JSON, tar shards, or a folder of images with .txt files beside them"""
    val: str = ""
    """validation data; without it `val_share` of the training images is set apart"""
    train_split: str = ""
    """split of a dataset_coco.json, or subfolder, to train on, such as train"""
    val_split: str = ""
    """split of a dataset_coco.json, or subfolder, to validate on, such as val"""
    image_root: str = ""
    """folder that image paths are relative to (default: the data file's own)"""
    val_share: float = 0.05
    """share of the training images set apart when `val` is not given (0: none, the best checkpoint is the lowest training loss)"""
    prompt: str | None = None
    """put before each caption and not scored (default: the model's own prompt)"""
    prompt_template: str = ""
    """prompt of each image, with columns of its row in braces, such as "a {style} photo of"; counts instead of `prompt`"""
    prompt_column: str = ""
    """column whose values are the prompts, where they are not empty (default: prompt, if the data have it)"""
    caption_column: str = ""
    """column of the captions (default: captions, caption, text or comment)"""
    image_column: str = ""
    """column of the images (default: file_name, image, image_path, path, image_name or filename)"""
    clean: Cleaning = "blip"
    """caption cleaning: blip (lower case, punctuation dropped) or none"""
    max_words: int = 30
    """captions are cut after this many words"""
    max_tokens: int = 40
    """captions are cut after this many tokens, prompt included; the end token is kept"""
    captions_per_image: int = 0
    """captions of an image trained on at once, chosen anew each epoch; 0 makes a row of every caption, as the reference does"""
    augment: bool = True
    """make every view of an image another one, as the next four settings say; off: images as in evaluation"""
    crop_scale: tuple[float, float] = (0.5, 1.0)
    """area of the random crop, as a share of the image"""
    flip: bool = True
    """mirror half of the images"""
    quarter_turns: bool = False
    """turn images by a random multiple of 90 degrees: for images from above"""
    randaugment: bool = True
    """the reference's RandAugment: 2 operations of magnitude 5"""
    stream: bool = False
    """read tar shards from front to back, again and again, instead of by an index: for URLs, pipes, and more than a disk holds"""
    epoch_rows: int = 0
    """with `stream`: rows that count as an epoch"""
    shuffle_rows: int = 2000
    """with `stream`: images in memory that the next one is drawn from"""
    cache: bool = False
    """keep decoded images in memory: for small data sets"""
    cache_embeddings: str = ""
    """a folder for what a frozen vision side makes of the images, so that it reads each once, in this run and in later ones"""
    num_workers: int = 2
    """processes that decode images (0: the training process does it)"""

    @property
    def columns(self) -> Columns:
        """The columns to read, for `open_data`."""
        return Columns(
            self.image_column, self.caption_column, self.prompt_column, self.prompt_template
        )

    def __post_init__(self) -> None:
        require_choices(self)
        _ = self.columns  # they check themselves
        require(0 <= self.val_share < 1, f"val_share {self.val_share} is not in [0, 1)")
        require(self.max_words >= 1, f"max_words {self.max_words} is below 1")
        require(self.max_tokens >= 3, f"max_tokens {self.max_tokens} is below 3")
        require(
            self.captions_per_image >= 0,
            f"captions_per_image {self.captions_per_image} is negative",
        )
        low, high = self.crop_scale
        require(0 < low <= high <= 1, f"crop_scale {low}, {high} is not within (0, 1]")
        require(self.shuffle_rows >= 1, f"shuffle_rows {self.shuffle_rows} is below 1")
        require(self.epoch_rows >= 0, f"epoch_rows {self.epoch_rows} is negative")
        require(
            self.stream == (self.epoch_rows > 0),
            "stream and epoch_rows go together: say how many rows of the shards make an epoch",
        )
        require(
            not (self.stream and (self.cache or self.cache_embeddings)),
            "stream reads images once and keeps none: leave the caches off",
        )
        require(
            not (self.cache_embeddings and self.augment),
            "data.cache_embeddings keeps one view of each image, and data.augment makes many: set `data.augment` to false",
        )
        require(self.num_workers >= 0, f"num_workers {self.num_workers} is negative")
