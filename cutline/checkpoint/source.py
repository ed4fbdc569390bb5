"""`CheckpointSource`: where a captioner was loaded from, so that it can be loaded again."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cutline.checkpoint.checkpoint import Checkpoint
from cutline.checkpoint.load import load_checkpoint, own_config_error
from cutline.checkpoint.onnx_folder import OnnxFolder, find_onnx_folder, load_onnx_folder
from cutline.config import CaptionConfig


class Identity(NamedTuple):
    """What tells a captioner from others."""

    fingerprint: str
    folder: Path | None
    """the folder that it is read from; None for a single file"""
    graph_precision: str
    """precision of ONNX graphs, "" of weights"""


@dataclass(frozen=True)
class CheckpointSource:
    """The arguments of `load_checkpoint`."""

    path: str | Path
    config: str | Path | CaptionConfig | None = None
    tokenizer: str | Path | None = None
    image_size: int | None = None
    merge_tokens: int | None = None

    def load(self) -> Checkpoint[CaptionConfig]:
        """Load the checkpoint."""
        return load_checkpoint(
            self.path, self.config, self.tokenizer, self.image_size, self.merge_tokens
        )

    def load_graphs(self) -> OnnxFolder | None:
        """Return the captioner's ONNX graphs; None if it has weights.

        Raises:
            CheckpointError: There is no model, or its parts do not fit together.
        """
        folder = find_onnx_folder(self.path)
        if folder is None:
            return None
        if self.config is not None:
            raise own_config_error(self.path)
        return load_onnx_folder(folder, self.tokenizer, self.image_size, self.merge_tokens)

    def identify(self) -> Identity:
        """Return the identity of the captioner.

        Raises:
            CheckpointError: The checkpoint cannot be read.
        """
        if graphs := self.load_graphs():
            return Identity(graphs.fingerprint, graphs.folder, graphs.precision)
        checkpoint = self.load()
        return Identity(checkpoint.fingerprint(), checkpoint.folder, graph_precision="")
