"""A run for TensorBoard: its numbers, and images of the validation set with their captions."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cutline.config import Recipe
from cutline.errors import ConfigError
from cutline.image import open_image


def open_tensorboard(run: Path, recipe: Recipe, step: int) -> "TensorBoardLog | None":
    """The board of the folder `run`, without what an earlier start wrote there after `step`; None if recipe or machine have none.

    Raises ConfigError where it is asked for but tensorboard is not installed.
    """
    if recipe.tensorboard == "off" or (
        recipe.tensorboard == "auto" and find_spec("tensorboard") is None
    ):
        return None
    return TensorBoardLog(run, step)


class TensorBoardLog:
    """Event files of one run."""

    def __init__(self, run: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError(
                "`tensorboard: on` needs tensorboard: pip install 'cutline[tensorboard]'"
            ) from None
        self.run = run
        self.writer = SummaryWriter(run / "tensorboard", purge_step=step + 1 if step else None)

    def write(self, line: dict[str, Any]) -> None:
        """The numbers of a line of the log, and the images and captions it holds."""
        step = line["step"]
        for name, value in line.items():
            if isinstance(value, float):
                self.writer.add_scalar(
                    f"{'training' if 'grad_norm' in line else 'validation'}/{name}", value, step
                )
        for number, sample in enumerate(line.get("samples", ())):
            image = open_image(str(self.run / sample["image"]))
            self.writer.add_image(f"images/{number}", np.asarray(image), step, dataformats="HWC")
        if samples := line.get("samples"):
            self.writer.add_text(
                "captions",
                "\n".join(f"{number}. {one['caption']}" for number, one in enumerate(samples)),
                step,
            )
        self.writer.flush()

    def close(self) -> None:
        """Finish the files."""
        self.writer.close()
