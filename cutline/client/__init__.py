"""Clients of `cutline serve`; they import neither torch nor a model."""

from cutline.client.async_client import AsyncClient
from cutline.client.calls import CaptionKwargs
from cutline.client.client import Client
from cutline.client.images import ImageInput
from cutline.client.results import (
    ServedCaption,
    ServedExplanation,
    ServedMatch,
    ServedScore,
    ServedText,
    ServedWordMap,
)

__all__ = [
    "AsyncClient",
    "CaptionKwargs",
    "Client",
    "ImageInput",
    "ServedCaption",
    "ServedExplanation",
    "ServedMatch",
    "ServedScore",
    "ServedText",
    "ServedWordMap",
]
