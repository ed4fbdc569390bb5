"""Read the body of a request: JSON, a form with files, or an image itself."""

import asyncio
import base64
import binascii
import json
import re
import string
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from cutline.config import ServeLimits
from cutline.messages import format_text
from cutline.serving.errors import ApiError
from cutline.serving.schemas import Fields, ImageInput
from cutline.serving.service import CaptionService
from cutline.strict_json import parse_strict_json

F = TypeVar("F", bound=Fields)

MAX_FORM_FIELDS = 1000
MAX_JSON_VALUES = 10_000
"""limit on lists, objects and their entries: of millions, Python's objects fill gigabytes"""
LISTS = ("bad_words", "captions", "texts")
"""fields that a form may repeat"""
_DATA_URL = re.compile(r"data:[^,]*?;base64,", re.IGNORECASE)
_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")  # Base64 for addresses has these
_WHITESPACE = string.whitespace.encode()
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_IN_FORM = "in the form"  # stands for images whose bytes are beside the fields


@dataclass(frozen=True)
class Body:
    """The fields of a request, and the images that came as bytes."""

    fields: dict[str, Any]
    images: list[bytes]


async def read_body(request: Request, limits: ServeLimits) -> Body:
    """Read the body of a request of our API.

    Raises:
        ApiError: It is malformed, or of a type that is not read.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("application/json", ""):
        return Body(await read_json(request), [])
    if kind == "multipart/form-data":
        return await _read_form(request, limits)
    if kind.startswith("image/") or kind == "application/octet-stream":
        query = request.query_params
        fields = {name: collect(name, query.getlist(name)) for name in query}
        return Body(fields, [await request.body()])
    message = "send application/json, multipart/form-data, or an image"
    raise ApiError(415, "unsupported_media_type", message, "Content-Type")


async def read_json(request: Request) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises:
        ApiError: The body is no JSON object.
    """
    body = await request.body()
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:  # those in texts, too
        message = f"the JSON has more than {MAX_JSON_VALUES:,} values; send fewer"
        raise ApiError(413, "too_large", message)
    try:
        content = parse_strict_json(body.decode("utf-8"))
        if _SURROGATE.search(body):
            json.dumps(content, ensure_ascii=False).encode("utf-8")  # fails for half a pair
    except ValueError:
        raise ApiError(400, "invalid_json", "the body is not valid JSON; check it") from None
    if not isinstance(content, dict):
        raise ApiError(400, "invalid_json", "the body must be a JSON object, {…}")
    return content


async def _read_form(request: Request, limits: ServeLimits) -> Body:
    async def chunks() -> AsyncGenerator[bytes]:
        yield await request.body()

    content_type = request.headers["content-type"]
    charset = parse_options_header(content_type)[1].get(b"charset", b"utf-8")
    if charset.lower() not in (b"utf-8", b"utf8"):  # some codecs yield what UTF-8 cannot hold
        raise ApiError(415, "unsupported_media_type", "send forms in UTF-8", "Content-Type")
    parser = MultiPartParser(
        request.headers,
        chunks(),
        max_files=limits.max_images,
        max_fields=MAX_FORM_FIELDS,
        max_part_size=limits.max_body_bytes,
    )
    parser.spool_max_size = limits.max_body_bytes + 1  # files stay in memory
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise too_many_images(limits) from None
        raise ApiError(400, "invalid_form", "the form is malformed; check it") from None
    fields: dict[str, list[str]] = {}
    images = []
    for name, value in form.multi_items():
        if isinstance(value, str):
            fields.setdefault(name, []).append(value)
        elif name in ("images", "image"):
            images.append(await value.read())
        else:
            await form.close()
            message = "name files `images` or `image`"
            raise ApiError(422, "invalid_request", message, format_text(name))
    await form.close()
    return Body({name: collect(name, values) for name, values in fields.items()}, images)


def collect(name: str, values: list[str]) -> str | list[str]:
    """Return the values of a field of a form: a list if the field is one, or is repeated."""
    return values if name in LISTS or len(values) > 1 else values[0]


def too_many_images(limits: ServeLimits) -> ApiError:
    """Return the error of a request with too many images."""
    message = f"at most {limits.max_images} images per request; send several requests"
    return ApiError(413, "too_large", message, "images")


def parse_fields(kind: type[F], body: Body) -> F:
    """Return the fields of a request.

    Raises:
        ApiError: One is unknown or invalid.
    """
    given = dict(body.fields)
    if body.images:
        stand_ins = [{"data": _IN_FORM}] * len(body.images)
        name = "images" if "images" in kind.model_fields else "image"
        if name in given:
            raise ApiError(422, "invalid_request", "send images in one way only", name)
        given[name] = stand_ins if name == "images" else stand_ins[0]
        if name == "image" and len(body.images) > 1:
            raise ApiError(422, "invalid_request", "send one image", name)
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise explain_invalid(error) from None


def explain_invalid(error: ValidationError) -> ApiError:
    """Return the error that a client is told: the first field that is wrong."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    param = format_location(first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "there is no such field; remove it"
    if first["type"] == "missing":
        message = "is missing"
    return ApiError(422, "invalid_request", f"{param}: {message}", param)


def format_location(location: tuple[int | str, ...]) -> str:
    """Return where in a request something is, such as images[0].data."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return format_text("".join(parts).removeprefix("."))


async def read_images(
    service: CaptionService,
    body: Body,
    inputs: Mapping[str, ImageInput],
    deadline: float | None,
) -> list[bytes]:
    """Return the bytes of the images of a request.

    Args:
        service: Fetches addresses.
        body: The request.
        inputs: The images by name, such as images[0].
        deadline: Seconds that the request asks for.

    Raises:
        ApiError: There are too many, or one is malformed, too large, or cannot be fetched.
    """
    limits = service.limits
    if len(inputs) > limits.max_images:
        raise too_many_images(limits)

    async def read(name: str, given: ImageInput) -> bytes:
        if given.data is not None:
            return decode_base64(given.data, f"{name}.data")
        return await service.fetch_image(given.url or "", f"{name}.url", deadline)

    images = body.images or await read_all(read(*each) for each in inputs.items())
    for name, image in zip(inputs, images, strict=True):
        check_size(image, name, limits)
    return images


async def read_all(coroutines: Iterable[Coroutine[Any, Any, bytes]]) -> list[bytes]:
    """Return the results of all coroutines; the error of one ends the others."""
    tasks = list(map(asyncio.ensure_future, coroutines))
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def check_size(image: bytes, name: str, limits: ServeLimits) -> None:
    """Raise ApiError if an image file is too large, or empty."""
    if len(image) > limits.max_image_bytes:
        message = f"an image has at most {limits.max_image_bytes:,} bytes; scale it down"
        raise ApiError(413, "too_large", message, name)
    if not image:
        raise ApiError(422, "invalid_image", "the image is empty", name)


def decode_base64(text: str, param: str) -> bytes:
    """Return the bytes of a text in Base64, with or without `data:` before it.

    Raises:
        ApiError: It is not Base64.
    """
    prefix = _DATA_URL.match(text)
    try:
        encoded = text[prefix.end() if prefix else 0 :].encode("ascii")
        encoded = encoded.translate(_STANDARD_BASE64, _WHITESPACE).rstrip(b"=")
        return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, "invalid_base64", "the image is not valid Base64", param) from None
