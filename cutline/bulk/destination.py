"""`Destination`: what kind of output a path names, and where the state of the run lies."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cutline.bulk.state import has_state
from cutline.bulk.text_format import XMP_EXTENSION
from cutline.config import OutputConfig
from cutline.data.coco_results import is_results_path
from cutline.data.names import is_image
from cutline.data.write import find_table_format
from cutline.errors import ConfigError
from cutline.files import check_writable, is_device

Kind = Literal["print", "file", "shard", "text", "shards", "sidecars"]
TEXT_EXTENSIONS = (".txt", ".caption", XMP_EXTENSION)
STATE_FOLDER = ".cutline"
IMAGEFOLDER_NAME = "metadata.jsonl"


@dataclass(frozen=True)
class Destination:
    """Where captions go."""

    kind: Kind
    path: Path = Path()
    """the file or folder; for sidecars, the folder of all images"""
    extension: str = ".txt"
    """of text files, or of the captions in shards"""
    suffix: str = ""
    """end of the names of a part of the collection, such as -00003-of-00016"""

    @property
    def state(self) -> Path | None:
        """Return the folder of the manifest; None for captions that are printed."""
        match self.kind:
            case "print":
                return None
            case "file" | "shard":
                return self.path.with_name(f"{self.path.name}.state")
            case "sidecars":  # files of each extension are the output of a run of their own
                return self.path / STATE_FOLDER / f"{self.extension.lstrip('.')}{self.suffix}"
        return self.path / STATE_FOLDER / f"{self.kind}{self.suffix}"

    @property
    def failures(self) -> Path | None:
        """Return the file that lists what failed; None for captions that are printed."""
        match self.kind:
            case "print":
                return None
            case "sidecars":
                assert self.state is not None
                return self.state.with_name(f"{self.state.name}.failed.jsonl")
            case "file" | "shard":
                return self.path.with_name(f"{self.path.name}.failed.jsonl")
        path = Path(os.path.abspath(self.path))  # noqa: PTH100  # "." has no name
        return path.with_name(f"{path.name}{self.suffix}.failed.jsonl")

    @property
    def is_imagefolder(self) -> bool:
        """Return whether it is the metadata.jsonl of Hugging Face's imagefolder."""
        return self.kind == "file" and self.path.name == IMAGEFOLDER_NAME

    @property
    def is_results(self) -> bool:
        """Return whether it is a .json file of COCO's results."""
        return self.kind == "file" and is_results_path(self.path)

    def check(self, new_run: bool) -> None:
        """Check that the output can be written, and belongs to a run if it exists.

        Args:
            new_run: Whether an output without a manifest is replaced.

        Raises:
            ConfigError: It exists, and has no manifest.
            CutlineError: It cannot be written.
        """
        if self.state is None:
            return
        check_writable(self.path)
        if self.kind == "sidecars" or new_run or is_device(self.path):
            return
        if self._exists() and not self._has_manifest():
            raise ConfigError(
                f"{self.path}: exists, and no run of cutline has left its state beside it; name "
                "another output, or replace it with --new-run"
            )

    def _exists(self) -> bool:
        return any(self.path.iterdir()) if self.path.is_dir() else self.path.exists()

    def _has_manifest(self) -> bool:
        if self.path.is_dir():  # all parts of a collection write there
            return any(map(has_state, self.path.glob(f"{STATE_FOLDER}/{self.kind}*")))
        return self.state is not None and has_state(self.state)


def find_destination(
    output: str, config: OutputConfig, suffix: str, folder: Path, from_shards: bool
) -> Destination:
    """Return where captions go.

    Args:
        output: What was named as output; "" for none.
        config: How captions are written.
        suffix: End of the names of a part of the collection.
        folder: The folder of all images.
        from_shards: Whether the source is tar shards.

    Raises:
        ConfigError: The output has an unsupported extension, or does not fit the settings.
    """
    extension = normalize_extension(config.caption_extension or ".txt")
    if is_image(f"a{extension}"):
        raise ConfigError(f"caption_extension {extension} is one of images: choose .txt")
    if output == "-" or (not output and not config.caption_extension):
        return Destination("print")
    if not output or output in TEXT_EXTENSIONS:
        if output and config.caption_extension and output != extension:
            raise ConfigError(
                f"the output {output} and caption_extension {extension} differ: remove one of them"
            )
        return Destination("sidecars", folder, output or extension, suffix)
    path = Path(output)
    if path.name in TEXT_EXTENSIONS:
        raise ConfigError(
            f"{output}: give {path.name} alone for a file beside each image, or name a folder"
        )
    ends_as_folder = output.endswith(("/", os.sep))
    if path.is_dir() or ends_as_folder or not path.suffix:
        in_shards = config.folder_format == "shards" or (
            config.folder_format == "auto" and from_shards
        )
        _check_shard_extension(extension, in_shards)
        return Destination("shards" if in_shards else "text", path, extension, suffix)
    path = path.with_name(f"{path.stem}{suffix}{path.suffix}")
    if path.suffix.lower() == ".tar":
        _check_shard_extension(extension, True)
        return Destination("shard", path, extension, suffix)
    if not is_results_path(output):
        find_table_format(output)
    return Destination("file", path, extension, suffix)


def _check_shard_extension(extension: str, in_shards: bool) -> None:
    if in_shards and extension.lower() == XMP_EXTENSION:
        raise ConfigError(f"caption_extension {extension} is not for shards: choose .txt")


def normalize_extension(extension: str) -> str:
    """Return an extension with a dot."""
    return f".{extension.removeprefix('.')}"
