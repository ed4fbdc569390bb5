"""Caption requests, and the batch that runs them."""

from cutline.batching.caption import Caption, TextEvent
from cutline.batching.request import CaptionRequest, RequestEvents
from cutline.batching.runner import BatchRunner

__all__ = ["BatchRunner", "Caption", "CaptionRequest", "RequestEvents", "TextEvent"]
