"""AUTOMATIC1111's API: the caption of an image, which it calls interrogation."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from cutline.serving.dependencies import Service
from cutline.serving.errors import named_params
from cutline.serving.native import ERRORS
from cutline.serving.openapi import describe_json
from cutline.serving.options import CaptionOptions
from cutline.serving.other_apis.fields import ClientFields, parse_client_fields, report_ignored
from cutline.serving.other_apis.images import read_sources

router = APIRouter(responses=ERRORS)


class InterrogateFields(ClientFields):
    """An image to caption."""

    image: str
    """the image in Base64"""
    model: Any = None
    """without effect: it names a kind of interrogator"""
    caption_prompt: str | None = None
    """the beginning of the caption, which is cut from it (default: the model's own)"""


@router.post(
    "/sdapi/v1/interrogate", openapi_extra={"requestBody": describe_json(InterrogateFields)}
)
async def interrogate(request: Request, service: Service) -> JSONResponse:
    """Caption an image."""
    fields = await parse_client_fields(InterrogateFields, request)
    sources = {"image": fields.image}
    with named_params(sources):
        images = await read_sources(service, sources, "image")
        (served,) = await service.caption(images, CaptionOptions(prompt=fields.caption_prompt))
    return JSONResponse({"caption": served.caption.text}, headers=report_ignored(fields))
