"""What the server tells clients about itself: defaults, limits and features."""

from dataclasses import asdict
from typing import Any

from cutline.config import GenerationConfig
from cutline.serving.options import SERVED_SETTINGS
from cutline.serving.service import CaptionService

_LIMITS = ("max_images", "max_image_bytes", "max_pixels", "max_candidates", "deadline")


def describe_server(service: CaptionService) -> dict[str, Any]:
    """Return what clients may want to know. Raises ApiError until the model is loaded."""
    model, config = service.captioner.config, service.config
    limits, defaults = asdict(service.limits), asdict(GenerationConfig())
    return {
        "model": service.name,
        "image_size": model.vision.image_size,
        "prompt": model.prompt,
        "max_positions": model.text.max_positions,
        "defaults": {name: defaults[name] for name in SERVED_SETTINGS} | {"style": "plain"},
        "limits": {name: limits[name] for name in _LIMITS} | {"max_length": service.max_length},
        "features": {
            "heat_maps": service.has_heat_maps,
            "gradient": config.explanations and service.has_heat_maps,
            "matches": service.has_matcher,
            "urls": config.allow_urls,
            "auth": bool(config.token_file),
        },
    }
