"""`CheckpointSource`: where a captioner was loaded from, so that it can be loaded again."""

from dataclasses import dataclass
from pathlib import Path

from cutline.checkpoint.checkpoint import Checkpoint
from cutline.checkpoint.load import load_checkpoint
from cutline.config import CaptionConfig


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
