"""What routes are given by FastAPI."""

from typing import Annotated, cast

from fastapi import Depends, Request

from cutline.serving.service import CaptionService


def find_service(request: Request) -> CaptionService:
    """Return the service of the application that a request came to."""
    return cast(CaptionService, request.app.state.service)


Service = Annotated[CaptionService, Depends(find_service)]
"""the parameter of a route that is the service"""
