"""Settings of datasets: where images and captions are, and how they are prepared for training."""

import re
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Literal

from cutline.config.limits import MAX_WORKERS
from cutline.config.pattern import require_simple_pattern
from cutline.config.validation import (
    Settings,
    reject,
    require,
    require_at_least,
    require_fractions,
)
from cutline.messages import format_value

Cleaning = Literal["blip", "none"]
ValSelection = Literal["random", "blocks"]
MAX_CAPTIONS_PER_IMAGE = 1000
"""captions of one image in a training example, which the batch holds together"""
MAX_SHUFFLE_BUFFER = 10_000_000
"""samples in memory, each with the bytes of its image"""
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
"""a column in a prompt template: `{style}`"""


@dataclass(frozen=True)
class Columns(Settings):
    """Column names of tables and JSON rows, where they differ from the defaults."""

    image_column: str = ""
    """column of the images (default: file_name, image, image_path, path, image_name or filename)"""
    caption_column: str = ""
    """column of the captions (default: captions, caption, text or comment)"""
    prompt_column: str = ""
    """column of the prompts; the model's prompt is used where it has no value (default: prompt)"""
    prompt_template: str = ""
    """prompt with column names in braces, such as "a {style} photo of" """
    group_column: str = ""
    """column of the groups that are held out as a whole: scene, video, sequence, region"""
    id_column: str = ""
    """column of the ids (default: image_id, img_id, id or key)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prompt_template:
            return
        name, value = "prompt_template", format_value(self.prompt_template)
        if self.prompt_column:
            reject(self, name, f"{value} and prompt_column are both given: remove one of them")
        if not PLACEHOLDER.search(self.prompt_template):
            problem = "contains no column name: write names in braces, such as {style}"
            reject(self, name, f"{value} {problem}")
        if set("{}") & set(PLACEHOLDER.sub("", self.prompt_template)):
            reject(self, name, f"{value} has an unmatched brace: write columns as {{style}}")

    @cached_property
    def names(self) -> dict[str, str]:
        """Return the setting that names each column, those in `prompt_template` included."""
        settings = ("image", "caption", "prompt", "group", "id")
        names = {getattr(self, f"{name}_column"): f"{name}_column" for name in settings}
        names |= dict.fromkeys(PLACEHOLDER.findall(self.prompt_template), "prompt_template")
        return {column: setting for column, setting in names.items() if column}


@dataclass(frozen=True)
class DataSource(Settings):
    """A dataset, and how to read it."""

    path: str
    """JSON Lines, COCO or Karpathy JSON, a table, tar shards, or a folder"""
    image_root: str = ""
    """folder that image paths are relative to (default: the folder of the data file)"""
    split: str = ""
    """split of a dataset_coco.json, such as val, or a subfolder or Parquet files of that name
    (default: all)"""
    columns: Columns = field(default_factory=Columns)


@dataclass(frozen=True)
class CaptionText(Settings):
    """Caption text: cleaning and truncation before training."""

    clean: Cleaning = "blip"
    """caption cleaning: blip (lower case, no punctuation) or none"""
    max_words: int = 30
    """truncate captions after this many words"""
    max_tokens: int = 40
    """truncate captions after this many tokens, prompt included; the end token is kept. A matcher
    reads at most 35, and pre-training 30"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "max_words")
        require_at_least(self, 3, "max_tokens")


@dataclass(frozen=True)
class AugmentConfig(Settings):
    """Random augmentation of training images."""

    augment: bool = True
    """apply random augmentation, as set below; off: prepare images as in evaluation"""
    crop_scale: tuple[float, float] = (0.5, 1.0)
    """area of the random crop, as a fraction of the image"""
    flip: bool = True
    """flip half of the images horizontally"""
    rot90: bool = False
    """rotate images by a random multiple of 90 degrees: for aerial images"""
    rotation: float = 0.0
    """rotate images by a random angle of at most this many degrees; corners are filled with the
    mirrored image (180: any angle)"""
    color_jitter: float = 0.0
    """change brightness, contrast and saturation by random factors of 1 ± this, and the balance of
    red, green and blue by a third of it"""
    randaugment: bool = True
    """apply RandAugment as in BLIP's code: 2 operations of magnitude 5"""

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            bounds = "(low, high) with 0 < low <= high <= 1"
            reject(self, "crop_scale", f"must be {bounds}, not ({low}, {high})")
        require_at_least(self, 0, "rotation", maximum=180)
        require_at_least(self, 0, "color_jitter", maximum=1)


@dataclass(frozen=True)
class DataPaths(Settings):
    """Training and validation data."""

    train: str = ""
    """training data: JSON Lines, CSV, Parquet, COCO or Karpathy JSON, tar shards, or a folder of
    images with .txt files beside them"""
    val: str = ""
    """validation data (default: `val_fraction` of the training images)"""
    train_split: str = ""
    """split of a dataset_coco.json, or subfolder, to train on, such as train"""
    val_split: str = ""
    """split of a dataset_coco.json, or subfolder, to validate on, such as val"""
    image_root: str = ""
    """folder that image paths are relative to (default: the folder of the data file)"""


@dataclass(frozen=True)
class SplitConfig(Settings):
    """Which training images are held out for validation, if there is no validation data."""

    val_fraction: float = 0.05
    """fraction of the training images held out if `val` is not given; with 0, the best checkpoint
    is the one with the lowest training loss"""
    val_selection: ValSelection = "random"
    """images to hold out: random ones (whole groups, if there are groups), or blocks: the last
    images of each group, or of all images, in natural order of their names"""
    group_pattern: str = ""
    """regular expression searched in the image's path below the folder of all images; images with
    the same capture groups, or without any the same match, form a group"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_fractions(self, "val_fraction")
        require_simple_pattern(self, "group_pattern")


@dataclass(frozen=True)
class DataConfig(AugmentConfig, CaptionText, Columns, SplitConfig, DataPaths):
    """Training data: paths, columns, captions, augmentation and loading."""

    captions_per_image: int = 0
    """captions per image in a training example, sampled in each epoch (0: one example per caption,
    as in BLIP's code)"""
    stream: bool = False
    """read tar shards sequentially, without an index: for URLs, pipes, and data larger than the
    disk"""
    samples_per_epoch: int = 0
    """number of examples that define an epoch; required with `stream`, otherwise 0"""
    shuffle_buffer: int = 2000
    """with `stream`: size of the shuffle buffer, in samples"""
    cache: bool = False
    """keep decoded images in memory, in each worker process: for small datasets"""
    cache_embeddings: str = ""
    """folder for the image embeddings of a frozen vision encoder, which are computed once and
    reused by later runs"""
    num_workers: int = 2
    """DataLoader worker processes (0: load in the training process)"""

    @property
    def columns(self) -> Columns:
        """Return the column names alone."""
        return Columns(**{column.name: getattr(self, column.name) for column in fields(Columns)})

    @property
    def train_source(self) -> DataSource:
        """Return the source of the training data."""
        return DataSource(self.train, self.image_root, self.train_split, self.columns)

    @property
    def val_source(self) -> DataSource:
        """Return the source of the validation data.

        It is another split of the training data if `val` is not given.
        """
        return DataSource(self.val or self.train, self.image_root, self.val_split, self.columns)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "captions_per_image", maximum=MAX_CAPTIONS_PER_IMAGE)
        require_at_least(self, 0, "num_workers", maximum=MAX_WORKERS)
        require_at_least(self, 1, "shuffle_buffer", maximum=MAX_SHUFFLE_BUFFER)
        require_at_least(self, 0, "samples_per_epoch")
        require(
            not (self.group_column and self.group_pattern),
            "`data.group_column` and `data.group_pattern` are both given: remove one of them",
        )
        is_set = self.group_column or self.group_pattern or self.val_selection != "random"
        require(
            not is_set or (self.val_fraction > 0 and not self.val and not self.val_split),
            "`data.group_column`, `data.group_pattern` and `data.val_selection` say which training "
            "images to hold out: remove them, or remove `data.val` and set `data.val_fraction` "
            "above 0",
        )
        require(
            self.stream == (self.samples_per_epoch > 0),
            "`data.stream` and `data.samples_per_epoch` go together: set both or neither",
        )
        require(
            not (self.stream and (self.cache or self.cache_embeddings)),
            "`data.stream` reads each image once: "
            "turn off `data.cache` and `data.cache_embeddings`",
        )
        require(
            not (self.cache_embeddings and self.augment),
            "`data.cache_embeddings` stores one view of each image, and `data.augment` makes many: "
            "set `data.augment` to false",
        )
