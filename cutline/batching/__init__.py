"""Caption requests, and the batch that runs them."""

from cutline.batching.caption import Caption, TextEvent
from cutline.batching.caption_request import CaptionRequest, RequestEvents
from cutline.batching.request import ImageTask, Request
from cutline.batching.runner import BatchRunner
from cutline.batching.style import style_caption

__all__ = [
    "BatchRunner",
    "Caption",
    "CaptionRequest",
    "ImageTask",
    "Request",
    "RequestEvents",
    "TextEvent",
    "style_caption",
]
