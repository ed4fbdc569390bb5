"""Ollama's API: what is known of the model, and the version of the server."""

import hashlib
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

import cutline
from cutline.config.size import count_parameters
from cutline.serving.dependencies import Service
from cutline.serving.openapi import describe_json
from cutline.serving.other_apis.fields import check_model, parse_client_fields
from cutline.serving.other_apis.ollama import format_time, name_model
from cutline.serving.other_apis.ollama_fields import ShowFields
from cutline.serving.service import CaptionService

FOREVER = 100 * 365 * 86_400  # seconds that the model stays loaded
BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
FORMATS = {"fp32": "F32", "bf16": "BF16", "int8": "Q8_0"}

router = APIRouter()


@router.get("/api/version")
async def show_version() -> JSONResponse:
    """Return the version of the server."""
    return JSONResponse({"version": cutline.__version__})


@router.get("/api/tags")
async def list_local_models(service: Service) -> JSONResponse:
    """Return the only model, in a list."""
    return JSONResponse({"models": [describe_local_model(service)]})


@router.get("/api/ps")
async def list_running_models(service: Service) -> JSONResponse:
    """Return the only model, which is always loaded, in a list."""
    captioner = service.captioner
    model = describe_local_model(service)
    loaded = {
        "expires_at": format_time(service.started + FOREVER),
        "size_vram": 0 if captioner.device.type == "cpu" else model["size"],
        "context_length": captioner.config.text.max_positions,
    }
    return JSONResponse({"models": [model | loaded]})


@router.post("/api/show", openapi_extra={"requestBody": describe_json(ShowFields)})
async def show_local_model(request: Request, service: Service) -> JSONResponse:
    """Return the sizes of the model, and that it reads images."""
    fields = await parse_client_fields(ShowFields, request)
    check_model(service, fields.model or fields.name)
    config = service.captioner.config
    return JSONResponse(
        {
            "modelfile": "",
            "parameters": "",
            "template": "{{ .Prompt }}",
            "details": describe_details(service),
            "model_info": {
                "general.architecture": "blip",
                "general.parameter_count": count_parameters(config),
                "blip.context_length": config.text.max_positions,
                "blip.embedding_length": config.text.embed_dim,
                "blip.block_count": config.text.depth,
                "blip.attention.head_count": config.text.num_heads,
                "blip.vision.block_count": config.vision.depth,
                "blip.vision.embedding_length": config.vision.embed_dim,
                "blip.vision.image_size": config.vision.image_size,
                "blip.vision.patch_size": config.vision.patch_size,
            },
            "capabilities": ["completion", "vision"],
            "modified_at": format_time(service.started),
        }
    )


def describe_local_model(service: CaptionService) -> dict[str, Any]:
    """Return what lists of models hold."""
    captioner = service.captioner
    name = name_model(service)
    identity = f"{name} {captioner.fingerprint or captioner.config!r}"
    return {
        "name": name,
        "model": name,
        "modified_at": format_time(service.started),
        "size": count_parameters(captioner.config) * BYTES[captioner.precision],
        "digest": hashlib.sha256(identity.encode()).hexdigest(),
        "details": describe_details(service),
    }


def describe_details(service: CaptionService) -> dict[str, Any]:
    """Return the family and the size of the model."""
    captioner = service.captioner
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": "blip",
        "families": ["blip"],
        "parameter_size": format_count(count_parameters(captioner.config)),
        "quantization_level": FORMATS[captioner.precision],
    }


def format_count(count: int) -> str:
    """Return a number of weights as 247.4M."""
    for size, letter in ((1_000_000_000, "B"), (1_000_000, "M")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return f"{count / 1000:.1f}K"
