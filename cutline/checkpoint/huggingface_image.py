"""How images are prepared in a Hugging Face folder: preprocessor_config.json."""

import logging
from pathlib import Path
from typing import Any

from cutline.checkpoint.huggingface_json import lookup, read_section
from cutline.checkpoint.kinds import AnyConfig
from cutline.config import ImageConfig, from_dict, to_dict
from cutline.messages import format_value
from cutline.model_files import read_json


def read_image_config(folder: Path, image_size: int) -> ImageConfig:
    """Read mean and standard deviation; an image size unlike the model's causes only a warning."""
    file, values = _read_preprocessor_config(folder)
    size = values.get("size", image_size)
    sizes = [size.get("height"), size.get("width")] if isinstance(size, dict) else [size]
    if any(side != image_size for side in sizes):
        logging.getLogger(__name__).warning(
            "%s: the image size is %s, but the model needs %d: using %d",
            *(file, format_value(size), image_size, image_size),
        )
    if values.get("do_normalize") is False:
        return ImageConfig(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    default = to_dict(ImageConfig())
    names = {"mean": "image_mean", "std": "image_std"}
    settings = {native: lookup(values, name, default[native]) for native, name in names.items()}
    return from_dict(ImageConfig, settings, str(file))


def _read_preprocessor_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    file = folder / "preprocessor_config.json"
    if file.is_file():
        return file, read_json(file)
    combined = folder / "processor_config.json"  # transformers 5 writes all processors to one file
    if combined.is_file():
        return combined, read_section(read_json(combined), "image_processor", str(combined))
    return file, {}


def make_preprocessor_config(config: AnyConfig) -> dict[str, Any]:
    """Make the content of a preprocessor_config.json for transformers."""
    return {
        "image_processor_type": "BlipImageProcessor",
        "processor_class": "BlipProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": config.vision.image_size, "width": config.vision.image_size},
        "resample": 3,  # bicubic
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.image.mean),
        "image_std": list(config.image.std),
    }
