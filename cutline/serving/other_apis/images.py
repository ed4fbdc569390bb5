"""The images of requests to other APIs, and the turn of a conversation that has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutline.serving.errors import ApiError
from cutline.serving.inputs import check_size, decode_base64, read_all, too_many_images
from cutline.serving.service import CaptionService

ADDRESSES = ("http://", "https://")


@dataclass(frozen=True)
class Turn:
    """A message of a conversation, in any API."""

    role: str
    text: str
    images: Mapping[str, str]
    """Base64 or addresses, by where they are in the request"""


def choose_images(turns: Sequence[Turn]) -> dict[str, str]:
    """Return the images of the last turn of the user that has any.

    Some clients send each image in a message of its own: all messages since the last one of the
    assistant are one turn.
    """
    images: dict[str, str] = {}
    for turn in reversed(turns):
        if turn.role == "user":
            images = {**turn.images, **images}
        elif turn.role == "assistant" and images:
            break
    return images


def find_text(turns: Sequence[Turn]) -> str:
    """Return the text of the last message of the user."""
    return next((turn.text for turn in reversed(turns) if turn.role == "user"), "")


async def read_sources(
    service: CaptionService, sources: Mapping[str, str], param: str
) -> list[bytes]:
    """Return the bytes of images.

    Args:
        service: Fetches addresses.
        sources: Base64, with or without `data:`, or addresses, by where they are in the request.
        param: Where images are expected.

    Raises:
        ApiError: There are none or too many, or one is malformed, too large, or cannot be fetched.
    """
    if not sources:
        message = "there is no image to caption; this model answers to images only: send one"
        raise ApiError(422, "invalid_request", message, param)
    if len(sources) > service.limits.max_images:
        raise too_many_images(service.limits)

    async def read(name: str, source: str) -> bytes:
        if source[: len(ADDRESSES[1])].lower().startswith(ADDRESSES):
            image = await service.fetch_image(source, name)
        else:
            image = decode_base64(source, name)
        check_size(image, name, service.limits)
        return image

    return await read_all(read(*source) for source in sources.items())
