"""Flags that several commands have."""

import dataclasses
import os
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from cutline.config import Columns, Engine, InferencePrecision

if TYPE_CHECKING:
    from cutline.captioner import Captioner

DEFAULT_MODEL = "Salesforce/blip-image-captioning-base"

Flags = arg(name="")  # a nested dataclass whose fields are flags of the command itself
Output = Annotated[str, arg(aliases=["-o"])]
_FORMS = (
    "JSON Lines, COCO or Karpathy JSON, a table (CSV, TSV, Parquet), tar shards, or a folder: of one of these, or of images with .txt "
    "files beside them"
)
Data = Positional[Annotated[str, arg(metavar="DATA", help=_FORMS)]]


@dataclasses.dataclass(frozen=True)
class DataFlags:
    """What a data set's path alone does not say."""

    image_root: str = ""
    """folder that image paths are relative to (default: the data file's own)"""
    split: str = ""
    """split of a dataset_coco.json, such as val; or the subfolder, or the Parquet files, of that name (default: all of them)"""
    columns: Columns = dataclasses.field(default_factory=Columns)
    """of tables, where they are called otherwise than usual"""


@dataclasses.dataclass(frozen=True)
class ModelFlags:
    """Which captioner, and where it runs."""

    model: Annotated[str, arg(aliases=["-m"])] = ""
    """hub id, .pth, Hugging Face folder, own folder or training run (default: $CUTLINE_MODEL, else BLIP base from the hub)"""
    device: str = "auto"
    """cpu, cuda, or the best there is"""
    precision: InferencePrecision = "auto"
    """bf16 where the processor is fast at it, else fp32 (auto); or fp32, bf16, int8"""
    engine: Engine = "packed"
    """weights laid out for the processor (packed), the encoder compiled or by OpenVINO, or all as it is (plain)"""
    config: str = ""
    """sizes of a .pth, which carries none: base, large, tiny or a JSON file"""
    tokenizer: str = ""
    """vocabulary of a .pth, which carries none: vocab.txt or tokenizer.json"""
    image_size: int = 0
    """another image size, in pixels; positions are interpolated (0: the model's own)"""

    def load(self) -> "Captioner":
        """The captioner that the flags mean."""
        from cutline.captioner import load

        path = self.model or os.environ.get("CUTLINE_MODEL") or DEFAULT_MODEL
        return load(
            path,
            self.device,
            self.precision,
            engine=self.engine,
            config=self.config or None,
            tokenizer=self.tokenizer or None,
            image_size=self.image_size or None,
        )
