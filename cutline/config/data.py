"""The pictures and captions of a run."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from cutline.config.checks import require, require_choices

Cleaning = Literal["blip", "none"]
PLACE = re.compile(r"\{([^{}]+)\}")
"""where a prompt template holds the value of a column: `{style}`"""


@dataclass(frozen=True)
class Columns:
    """The columns of tables that are called otherwise than usual, and those that prompts are made of."""

    image: str = ""
    """column of the pictures (default: file_name, image and the like)"""
    caption: str = ""
    """column of the captions (default: captions, caption, text and the like)"""
    prompt: str = ""
    """column of the prompts (default: prompt, where there is one)"""
    template: str = ""
    """prompt with columns in braces, such as "a {style} photo of" """

    def __post_init__(self) -> None:
        require(not (self.prompt and self.template), "prompt_column and prompt_template are both given: leave one out")
        if self.template:
            require(
                bool(PLACE.search(self.template)), f"prompt_template {self.template!r} names no column: write it in braces, as {{style}}"
            )
            odd = set("{}") & set(PLACE.sub("", self.template))
            require(not odd, f"prompt_template {self.template!r} has a brace too many: put each column between two")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every column named here."""
        return (*filter(None, (self.image, self.caption, self.prompt)), *PLACE.findall(self.template))


@dataclass(frozen=True)
class DataConfig:
    """The pictures and captions, and what is done to them."""

    train: str = ""
    """training data: JSONL, CSV, Parquet, COCO or Karpathy JSON, tar shards, or a folder of pictures with .txt files beside them"""
    val: str = ""
    """validation data; without it `val_share` of the training pictures is set apart"""
    train_split: str = ""
    """split of a dataset_coco.json, or subfolder, to train on, such as train"""
    val_split: str = ""
    """split of a dataset_coco.json, or subfolder, to validate on, such as val"""
    image_root: str = ""
    """folder that picture paths are relative to (default: the data file's own)"""
    val_share: float = 0.05
    """share of the training pictures set apart when `val` is not given (0: none, the best checkpoint is the lowest training loss)"""
    prompt: str | None = None
    """put before each caption and not scored (default: the model's own prompt)"""
    prompt_template: str = ""
    """prompt of each picture, with columns of its row in braces, such as "a {style} photo of"; counts instead of `prompt`"""
    prompt_column: str = ""
    """column whose values are the prompts, where they are not empty (default: prompt, if the data have it)"""
    caption_column: str = ""
    """column of the captions (default: captions, caption, text or comment)"""
    image_column: str = ""
    """column of the pictures (default: file_name, image, image_path, path, image_name or filename)"""
    clean: Cleaning = "blip"
    """caption cleaning: blip (lower case, punctuation dropped) or none"""
    max_words: int = 30
    """captions are cut after this many words"""
    max_tokens: int = 40
    """captions are cut after this many tokens, prompt included; the end token is kept"""
    captions_per_image: int = 0
    """captions of a picture trained on at once, chosen anew each epoch; 0 makes a row of every caption, as the reference does"""
    crop_scale: tuple[float, float] = (0.5, 1.0)
    """area of the random crop, as a share of the picture"""
    flip: bool = True
    """mirror half of the pictures"""
    quarter_turns: bool = False
    """turn pictures by a random multiple of 90 degrees: for pictures from above"""
    randaugment: bool = True
    """the reference's RandAugment: 2 operations of magnitude 5"""
    cache: bool = False
    """keep decoded pictures in memory: for small data sets"""
    num_workers: int = 2
    """processes that decode pictures (0: the training process does it)"""

    @property
    def columns(self) -> Columns:
        """The columns to read, for `open_data`."""
        return Columns(self.image_column, self.caption_column, self.prompt_column, self.prompt_template)

    def __post_init__(self) -> None:
        require_choices(self)
        _ = self.columns  # they check themselves
        require(0 <= self.val_share < 1, f"val_share {self.val_share} is not in [0, 1)")
        require(self.max_words >= 1, f"max_words {self.max_words} is below 1")
        require(self.max_tokens >= 3, f"max_tokens {self.max_tokens} is below 3")
        require(self.captions_per_image >= 0, f"captions_per_image {self.captions_per_image} is negative")
        low, high = self.crop_scale
        require(0 < low <= high <= 1, f"crop_scale {low}, {high} is not within (0, 1]")
        require(self.num_workers >= 0, f"num_workers {self.num_workers} is negative")
