"""`Destination`: what kind of output a path names, and where the state lies; make the output."""

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from cutline.bulk.new_shards import NewShardOutput
from cutline.bulk.output import FileOutput, Output, PrintedOutput
from cutline.bulk.record import Record
from cutline.bulk.shard_copies import ShardCopyOutput
from cutline.bulk.sources import Collection
from cutline.bulk.text_output import TextOutput
from cutline.config import OutputConfig
from cutline.data.names import is_image
from cutline.data.write import find_table_format
from cutline.errors import ConfigError
from cutline.files import check_writable, is_device
from cutline.messages import format_text

Kind = Literal["print", "file", "shard", "text", "shards", "sidecars"]
TEXT_EXTENSIONS = (".txt", ".caption")
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
            return any(self.path.glob(f"{STATE_FOLDER}/{self.kind}*/manifest.json"))
        return self.state is not None and (self.state / "manifest.json").is_file()


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
        return Destination("shards" if in_shards else "text", path, extension, suffix)
    path = path.with_name(f"{path.stem}{suffix}{path.suffix}")
    if path.suffix.lower() == ".tar":
        return Destination("shard", path, extension, suffix)
    find_table_format(output)
    return Destination("file", path, extension, suffix)


def normalize_extension(extension: str) -> str:
    """Return an extension with a dot."""
    return f".{extension.removeprefix('.')}"


def make_output(
    destination: Destination,
    collection: Collection,
    outputs: OutputConfig,
    part: tuple[int, int],
    show: Callable[[Record], None],
) -> Output:
    """Return the output at a destination.

    Args:
        destination: Where captions go.
        collection: The images.
        outputs: How captions are written.
        part: I and N of part I/N of the collection.
        show: Called with each caption, if captions are printed.

    Raises:
        ConfigError: The destination cannot have the captions of these images, or a setting has no
            effect there.
    """
    require_local_images(destination, collection)
    reject_unused_settings(destination, collection, outputs)
    match destination.kind:
        case "print":
            return PrintedOutput(show)
        case "file":
            return FileOutput(destination.path, destination.is_imagefolder)
        case "text" | "sidecars":
            folder = destination.path if destination.kind == "text" else None
            extension = destination.extension
            return TextOutput(folder, collection.folder, extension, outputs.existing)
    return _make_shard_output(destination, collection, outputs, part)


def _make_shard_output(
    destination: Destination,
    collection: Collection,
    outputs: OutputConfig,
    part: tuple[int, int],
) -> Output:
    is_single = destination.kind == "shard"
    if is_single and collection.from_shards and len(collection.inputs) > 1:
        raise ConfigError(
            f"{destination.path}: a single shard, which cannot have the captions of several; "
            "name a folder as output"
        )
    path, extension = destination.path, destination.extension
    if collection.from_shards:
        return ShardCopyOutput(
            path,
            extension,
            outputs.existing,
            is_single=is_single,
            part=part,
            open_shard=collection.open_shard,
        )
    shard_size = None if is_single else outputs.shard_size
    return NewShardOutput(path, extension, shard_size, destination.suffix)


def reject_unused_settings(
    destination: Destination, collection: Collection, outputs: OutputConfig
) -> None:
    """Raise ConfigError for a setting that has no effect on the output."""
    used = {
        "text": {"existing", "caption_extension", "folder_format"},
        "sidecars": {"existing", "caption_extension"},
        "shards": {"caption_extension", "folder_format"},
        "shard": {"caption_extension"},
    }.get(destination.kind, set())
    if destination.kind in ("shard", "shards"):
        used = used | ({"existing"} if collection.from_shards else {"shard_size"})
    if destination.kind == "shard":
        used = used - {"shard_size"}
    for setting in fields(OutputConfig):
        is_changed = getattr(outputs, setting.name) != setting.default
        if is_changed and setting.name not in used | {"caption_template"}:
            raise ConfigError(
                f"{setting.name} has no effect on this output: remove it, or name another output"
            )


def require_local_images(destination: Destination, collection: Collection) -> None:
    """Raise ConfigError if images should have captions beside them, and are certainly no files."""
    place = next((source.place for source in collection.inputs if source.place), "")
    if place and (destination.kind == "sidecars" or destination.is_imagefolder):
        raise ConfigError(
            f"{format_text(place)}: has no image files on this machine that captions could be "
            "written beside; name a folder or a file as output"
        )
