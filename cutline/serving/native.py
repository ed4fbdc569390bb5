"""Our own API: captions, scores, heat-maps and matches."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.responses import Response
from torch import Tensor

from cutline.explanation.pixels import encode_target, explain_pixels
from cutline.serving import schemas
from cutline.serving.dependencies import Service
from cutline.serving.errors import ApiError, named_params
from cutline.serving.events import CaptionStream, stream_events
from cutline.serving.inputs import Body, parse_fields, read_body, read_images
from cutline.serving.openapi import describe_body
from cutline.serving.options import CaptionOptions
from cutline.serving.service import CaptionService

Route = TypeVar("Route", bound=Callable[..., Awaitable[Response]])

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": schemas.ErrorOutput, "description": "The request is wrong, or not allowed."},
    "5XX": {"model": schemas.ErrorOutput, "description": "The server cannot answer."},
}


router = APIRouter(responses=ERRORS)


def route(
    path: str, kind: type[schemas.Fields], response: type[BaseModel]
) -> Callable[[Route], Route]:
    """Return a decorator that adds a route; `kind` is what it is sent."""
    body = describe_body(kind)
    return router.post(path, response_model=response, openapi_extra={"requestBody": body})


@route("/v1/captions", schemas.CaptionFields, schemas.CaptionsOutput)
async def create_captions(request: Request, service: Service) -> Response:
    """Caption images; with `stream`, send server-sent events: text, caption, error, done."""
    body = await read_body(request, service.limits)
    fields = parse_fields(schemas.CaptionFields, body)
    options = replace(make_options(fields), style=fields.style)
    names = {f"images[{index}]": image for index, image in enumerate(fields.images)}
    images = await read_images(service, body, names, fields.deadline)
    if fields.stream:
        requests = service.submit(images, options)
        events = stream_events(service, requests, options.style)
        return CaptionStream(events, requests, "text/event-stream")
    captions = await service.caption(images, options)
    outputs = list(map(schemas.caption_to_json, captions))
    return JSONResponse({"model": service.name, "captions": outputs})


@route("/v1/scores", schemas.ScoreFields, schemas.ScoresOutput)
async def create_scores(request: Request, service: Service) -> Response:
    """Compute the log-likelihood of captions, given an image and a prompt."""
    body = await read_body(request, service.limits)
    fields = parse_fields(schemas.ScoreFields, body)
    limit_count(service, "captions", fields.captions)
    for index, caption in enumerate(fields.captions):
        check_given_caption(service, caption, fields.prompt, f"captions[{index}]")
    image = await read_image(service, body, fields)
    captioner = service.captioner
    scores = await service.run_task(
        image,
        lambda pixels: captioner.score(to_array(pixels), fields.captions, fields.prompt),
        fields.deadline,
    )
    outputs = [
        {
            "text": text,
            "log_prob": schemas.to_finite(score.log_prob),
            "perplexity": schemas.to_finite(score.perplexity),
            "token_log_probs": [schemas.to_finite(each) for each in score.token_log_probs],
        }
        for text, score in zip(fields.captions, scores, strict=True)
    ]
    return JSONResponse({"model": service.name, "scores": outputs})


@route("/v1/explanations", schemas.ExplanationFields, schemas.ExplanationOutput)
async def create_explanation(request: Request, service: Service) -> Response:
    """Compute where in an image the captioner looked for each word of a caption."""
    body = await read_body(request, service.limits)
    fields = parse_fields(schemas.ExplanationFields, body)
    if not service.has_heat_maps:
        message = "this server has no heat-maps, as it runs ONNX graphs: start it with their source"
        raise ApiError(501, "not_available", message)
    if fields.method == "gradient" and not service.config.explanations:
        message = "this server has no heat-maps from gradients: start it with --explanations"
        raise ApiError(501, "not_available", message, "method")
    options = make_options(fields)
    if fields.caption is not None:
        check_given_caption(service, fields.caption, fields.prompt, "caption")
        for name in fields.find_settings():
            message = f"{name} is for captions that are generated: remove it, or caption"
            raise ApiError(422, "invalid_request", message, name)
    image = await read_image(service, body, fields)
    return JSONResponse(await explain_image(service, image, fields, options))


@route("/v1/matches", schemas.MatchFields, schemas.MatchesOutput)
async def create_matches(request: Request, service: Service) -> Response:
    """Compute how likely each text describes an image."""
    body = await read_body(request, service.limits)
    fields = parse_fields(schemas.MatchFields, body)
    matcher = service.matcher
    limit_count(service, "texts", fields.texts)
    image = await read_image(service, body, fields)

    def match(pixels: Tensor) -> list[float]:
        probabilities: list[float] = matcher.match(to_array(pixels), fields.texts).tolist()
        return probabilities

    size = matcher.config.vision.image_size
    probabilities = await service.run_task(image, match, fields.deadline, size)
    outputs = [
        {"text": text, "probability": probability}
        for text, probability in zip(fields.texts, probabilities, strict=True)
    ]
    return JSONResponse({"model": service.name, "matches": outputs})


def make_options(fields: schemas.GenerationFields) -> CaptionOptions:
    """Return how the images of a request are captioned. Raises ConfigError."""
    return CaptionOptions(fields.make_config(), fields.prompt, deadline=fields.deadline)


async def read_image(
    service: CaptionService,
    body: Body,
    fields: schemas.ScoreFields | schemas.ExplanationFields | schemas.MatchFields,
) -> bytes:
    """Return the bytes of the only image of a request. Raises ApiError."""
    (image,) = await read_images(service, body, {"image": fields.image}, fields.deadline)
    return image


def limit_count(service: CaptionService, name: str, texts: Sequence[str]) -> None:
    """Raise ApiError if there are more texts than the server allows."""
    limit = service.limits.max_candidates
    if len(texts) > limit:
        raise ApiError(422, "invalid_request", f"{name}: at most {limit} per request", name)


def check_given_caption(
    service: CaptionService, caption: str, prompt: str | None, param: str
) -> None:
    """Raise ApiError if a given caption, with its prompt, has more tokens than one may have."""
    captioner, limit = service.captioner, service.max_length
    prompt = captioner.config.prompt if prompt is None else prompt
    # [SEP] is beyond `max_length`, and one more token shows that a caption is too long.
    encoded = captioner.tokenizer.encode(caption, prompt, limit + 2)
    if len(encoded.token_ids) > limit + 1:
        message = f"with its prompt longer than {limit} tokens, the limit here: shorten it"
        raise ApiError(422, "invalid_request", f"{param}: {message}", param)


def to_array(pixels: Tensor) -> np.ndarray[Any, Any]:
    """Return pixels (3, S, S) as an image, (S, S, 3)."""
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


async def explain_image(
    service: CaptionService,
    image: bytes,
    fields: schemas.ExplanationFields,
    options: CaptionOptions,
) -> dict[str, Any]:
    """Return the heat-map of each word of a caption, as JSON."""
    captioner = service.captioner
    prompt = captioner.config.prompt if fields.prompt is None else fields.prompt
    if fields.caption is None:
        with named_params(["image"]):
            (served,) = await service.caption([image], options)
        encoded = encode_target(captioner, served.caption, prompt)
    else:
        encoded = encode_target(captioner, fields.caption, prompt)
    explanation = await service.run_task(
        image,
        lambda pixels: explain_pixels(captioner, pixels, encoded, fields.method),
        fields.deadline,
    )
    rows = captioner.config.vision.image_size // captioner.config.vision.patch_size
    words = [
        {"text": word.text, "start": word.start, "end": word.end, "map": word.map.tolist()}
        for word in explanation.words
    ]
    return {
        "model": service.name,
        "text": explanation.text,
        "method": explanation.method,
        "rows": rows,
        "columns": rows,
        "words": words,
    }
