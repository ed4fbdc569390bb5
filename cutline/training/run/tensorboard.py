"""TensorBoard event files of a run: its numbers, and validation images with their captions."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from cutline.config import Recipe
from cutline.errors import ConfigError
from cutline.image import open_image


def uses_tensorboard(recipe: Recipe) -> bool:
    """Return whether a run of `recipe` writes event files.

    Raises:
        ConfigError: The recipe turns TensorBoard on, and it is not installed.
    """
    installed = find_spec("tensorboard") is not None
    if recipe.tensorboard == "on" and not installed:
        raise ConfigError("`tensorboard: on` needs TensorBoard: pip install 'cutline[tensorboard]'")
    return installed and recipe.tensorboard != "off"


class TensorBoardLog:
    """Event files of one run."""

    def __init__(self, directory: Path, step: int) -> None:
        """Open the event files of the run in `directory`, and hide the events after `step`."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                f"TensorBoard cannot be imported ({error}): reinstall it, or set `tensorboard: off`"
            ) from None

        self.directory = directory
        self.writer = SummaryWriter(directory / "tensorboard", purge_step=step + 1)

    def write(self, line: dict[str, Any]) -> None:
        """Write the numbers of a log line, and its sample images and captions if it has any."""
        step, samples = line["step"], line.get("samples", ())
        group = "training" if "grad_norm" in line else "validation"
        for name, value in line.items():
            if isinstance(value, float):
                self.writer.add_scalar(f"{group}/{name}", value, step)
        for i, sample in enumerate(samples):
            pixels = np.asarray(open_image(str(self.directory / sample["image"])))
            self.writer.add_image(f"images/{i}", pixels, step, dataformats="HWC")
        if samples:
            captions = [f"{i}. {sample['caption']}" for i, sample in enumerate(samples)]
            self.writer.add_text("captions", "\n".join(captions), step)
        self.writer.flush()

    def close(self) -> None:
        """Close the files."""
        self.writer.close()
