"""The pictures and captions of a run."""

from dataclasses import dataclass
from typing import Literal

from cutline.config.checks import require, require_choices

Cleaning = Literal["blip", "none"]


@dataclass(frozen=True)
class DataConfig:
    """The pictures and captions, and what is done to them."""

    train: str = ""
    """training data: JSONL, COCO or Karpathy JSON, or a folder of pictures with .txt files beside them"""
    val: str = ""
    """validation data; without it `val_share` of the training pictures is set apart"""
    train_split: str = ""
    """split of a dataset_coco.json to train on, such as train"""
    val_split: str = ""
    """split of a dataset_coco.json to validate on, such as val"""
    image_root: str = ""
    """folder that picture paths are relative to (default: the data file's own)"""
    val_share: float = 0.05
    """share of the training pictures set apart when `val` is not given (0: none, the best checkpoint is the lowest training loss)"""
    prompt: str | None = None
    """put before each caption and not scored (default: the model's own prompt)"""
    clean: Cleaning = "blip"
    """caption cleaning: blip (lower case, punctuation dropped) or none"""
    max_words: int = 30
    """captions are cut after this many words"""
    max_tokens: int = 40
    """captions are cut after this many tokens, prompt included; the end token is kept"""
    captions_per_image: int = 0
    """captions of a picture trained on at once, chosen anew each epoch; 0 makes a row of every caption, as the reference does"""
    augment: bool = True
    """make every view of a picture another one, as the next four settings say; off: pictures as in evaluation"""
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
    cache_embeddings: str = ""
    """a folder for what a frozen vision side makes of the pictures, so that it reads each once, in this run and in later ones"""
    num_workers: int = 2
    """processes that decode pictures (0: the training process does it)"""

    def __post_init__(self) -> None:
        require_choices(self)
        require(0 <= self.val_share < 1, f"val_share {self.val_share} is not in [0, 1)")
        require(self.max_words >= 1, f"max_words {self.max_words} is below 1")
        require(self.max_tokens >= 3, f"max_tokens {self.max_tokens} is below 3")
        require(self.captions_per_image >= 0, f"captions_per_image {self.captions_per_image} is negative")
        low, high = self.crop_scale
        require(0 < low <= high <= 1, f"crop_scale {low}, {high} is not within (0, 1]")
        require(
            not (self.cache_embeddings and self.augment),
            "data.cache_embeddings keeps one view of each picture, and data.augment makes many: set `data.augment` to false",
        )
        require(self.num_workers >= 0, f"num_workers {self.num_workers} is negative")
