"""Folders of golden numbers: what BLIP's code computed, see golden/README.md."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from cutline.config import CaptionConfig, TextConfig, VisionConfig


@dataclass(frozen=True)
class GoldenFolder:
    """A reference captioner or matcher with its inputs and outputs."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """Return the weights, in the published format."""
        return self.path / "checkpoint.pth"

    @property
    def vocabulary(self) -> Path:
        """Return its own vocabulary, that of its captioner, or that of published checkpoints."""
        captioner = self.path.with_name(self.path.name.replace("-itm", ""))
        for folder in (self.path, captioner):
            if (folder / "vocab.txt").exists():
                return folder / "vocab.txt"
        return self.path.parent / "bert-base-uncased-vocab.txt"

    @property
    def images(self) -> list[Path]:
        """Return the images."""
        return [self.path / "images" / name for name in self.expected["images"]]

    @property
    def interpolated(self) -> str:
        """Return the name of the files made at another image size, without suffix."""
        (file,) = self.path.glob("interpolated_*.json")
        return file.stem

    @cached_property
    def expected(self) -> dict[str, Any]:
        """Return the contents of expected.json."""
        return self.read_json("expected")

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Return the contents of expected.safetensors."""
        return self.read_tensors("expected")

    @property
    def config(self) -> CaptionConfig:
        """Return the sizes."""
        cfg = self.expected["cfg"]
        text = TextConfig(
            vocab_size=cfg["vocab_size"],
            embed_dim=cfg["hidden_size"],
            depth=cfg["num_hidden_layers"],
            num_heads=cfg["num_attention_heads"],
            mlp_dim=cfg["intermediate_size"],
            max_positions=cfg["max_position_embeddings"],
        )
        return CaptionConfig(vision=VisionConfig(**self.expected["vision"]), text=text)

    def read_json(self, name: str) -> Any:
        """Return the contents of the file `name`.json."""
        return json.loads((self.path / f"{name}.json").read_text(encoding="utf-8"))

    def read_tensors(self, name: str) -> dict[str, Tensor]:
        """Return the tensors of the file `name`.safetensors."""
        return load_file(self.path / f"{name}.safetensors")
