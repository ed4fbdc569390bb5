"""Settings of captioning a collection: its sources, its outputs, and the run."""

import re
from dataclasses import dataclass
from typing import Literal

from cutline.config.validation import Settings, reject, require, require_at_least, require_between
from cutline.messages import format_value

CaptionStyle = Literal["plain", "alt"]
Existing = Literal["skip", "overwrite", "append", "prepend"]
FolderFormat = Literal["auto", "text", "shards"]
Cluster = Literal["", "ray"]
CAPTION_FIELD = "{caption}"
MAX_ACTORS = 100_000
"""processes of a cluster"""
_PART = re.compile(r"(\d{1,9})/(\d{1,9})")
_EXTENSION = re.compile(r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True)
class SourceConfig(Settings):
    """Source: which images are read, beyond those named on the command line."""

    from_list: str = ""
    """file with a path or an address on each line; - for stdin"""
    recursive: bool = True
    """read the images in subfolders of a folder, too"""
    allow_urls: bool = False
    """fetch images from addresses in lists, tables and shards; those on the command line always
    are"""


@dataclass(frozen=True)
class OutputConfig(Settings):
    """Output: how captions are written."""

    existing: Existing = "skip"
    """images that have a caption file already, or an XMP sidecar with a description: skip them,
    overwrite the text, append a line to it, or prepend one"""
    caption_extension: str = ""
    """extension of caption files, such as .txt, .caption or .xmp (XMP sidecars, a.jpg.xmp), beside
    the images if no output is named (default: that of the output, else .txt)"""
    style: CaptionStyle = "plain"
    """alt: write captions as alternative texts: without "a picture of" at the beginning, with a
    capital letter and a full stop, and cut after a word if longer than 125 characters (the template
    adds to that)"""
    caption_template: str = CAPTION_FIELD
    """text to write, such as "{caption}, photo of sks dog": a trigger word belongs here, because
    `prompt` is what the model is given and is cut from the caption"""
    folder_format: FolderFormat = "auto"
    """what an output folder holds: text files, or tar shards (auto: shards if the source is shards,
    else text)"""
    shard_size: int = 1000
    """images in a new shard; shards of the source keep theirs"""
    words: bool = False
    """add a column with the words of each caption: text, start, end and confidence"""
    min_confidence: float = 0.0
    """captions of lower confidence, from 0 to 1, are not accepted: tables mark them in a column
    `accepted`, and they are not printed or written anywhere else (0: off)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "shard_size")
        require_between(self, 0, 1, "min_confidence")
        if CAPTION_FIELD not in self.caption_template:
            example = f'such as "{CAPTION_FIELD}, photo of sks dog"'
            reject(self, "caption_template", f"must contain {CAPTION_FIELD}, {example}")
        if self.caption_extension and not _EXTENSION.fullmatch(self.caption_extension):
            value = format_value(self.caption_extension)
            reject(self, "caption_extension", f"must be like .txt, not {value}")

    @property
    def text_start(self) -> int:
        """Return the position of the caption in the text to write."""
        return self.caption_template.index(CAPTION_FIELD)

    def accepts(self, confidence: float) -> bool:
        """Return whether a caption of this confidence is accepted."""
        return confidence >= self.min_confidence

    def format_caption(self, text: str) -> str:
        """Return the text to write for a caption."""
        return self.caption_template.replace(CAPTION_FIELD, text)


@dataclass(frozen=True)
class RunConfig(Settings):
    """Run: where it goes on, and what it does of the collection."""

    new_run: bool = False
    """start again: forget what an earlier run has done, and replace its output"""
    retry_failed: bool = False
    """try again images that failed in an earlier run"""
    limit: int = 0
    """process at most this many images, then stop (0: all)"""
    part: str = ""
    """part I/N of the collection, I from 0, chosen by the hash of the id: for job arrays; the
    output captions.jsonl becomes captions-00003-of-00016.jsonl"""
    devices: tuple[str, ...] = ()
    """devices that get a process each, such as cuda:0 cuda:1, or cpu cpu (default: `device`, in
    this process)"""
    cluster: Cluster = ""
    """ray: run on a Ray cluster (default: on this machine)"""
    ray_address: str = ""
    """address of the Ray cluster, such as auto or ray://HOST:10001 (default: that in RAY_ADDRESS,
    else a local cluster that ends with the run)"""
    ray_actors: int = 0
    """processes of the Ray cluster that hold the model (0: one per GPU or, without GPUs, per 4 CPU
    cores)"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "limit")
        require_at_least(self, 0, "ray_actors", maximum=MAX_ACTORS)
        match = _PART.fullmatch(self.part)
        if self.part and not (match and int(match[1]) < int(match[2])):
            reject(
                self, "part", f"must be I/N with I from 0 to N - 1, not {format_value(self.part)}"
            )
        require(
            bool(self.cluster) or not (self.ray_address or self.ray_actors),
            "ray_address and ray_actors are for the Ray cluster: add --cluster ray, or remove them",
        )
        require(
            not (self.cluster and self.devices),
            "devices are those of this machine: remove devices or cluster",
        )

    @property
    def part_number(self) -> tuple[int, int]:
        """Return I and N of part I/N; 0 and 1 for the whole collection."""
        number, _, count = (self.part or "0/1").partition("/")
        return int(number), int(count)

    @property
    def part_suffix(self) -> str:
        """Return what names of a part end with, such as -00003-of-00016; "" for the whole."""
        number, count = self.part_number
        return f"-{number:05}-of-{count:05}" if self.part else ""
