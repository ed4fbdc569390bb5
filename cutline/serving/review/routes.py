"""What the page of a review asks for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.responses import Response

from cutline.config import GenerationConfig
from cutline.data.sample import is_url
from cutline.errors import ImageError
from cutline.files import ImageRef, is_device
from cutline.serving import schemas
from cutline.serving.dependencies import Service
from cutline.serving.errors import ApiError
from cutline.serving.native import explain_image
from cutline.serving.options import CaptionOptions
from cutline.serving.review.bodies import (
    EditBody,
    FilterBody,
    PlaceBody,
    ReplacementBody,
    StepBody,
    TextBody,
)
from cutline.serving.review.row import Row
from cutline.serving.review.session import ReviewSession

MAX_PAGE = 200
"""rows of one answer"""
CACHE = {"Cache-Control": "private, max-age=3600", "Cross-Origin-Resource-Policy": "same-origin"}

PROPOSALS = CaptionOptions(GenerationConfig(num_captions=3))

router = APIRouter()


def find_session(request: Request) -> ReviewSession:
    """Return the review of the application that a request came to."""
    return cast(ReviewSession, request.app.state.session)


Session = Annotated[ReviewSession, Depends(find_session)]


@router.get("/state")
def read_state(session: Session, service: Service) -> dict[str, Any]:
    """Return what the review is about, and how far it is."""
    return {
        "name": session.name,
        "can_caption": session.can_caption,
        "model": service.name,
        "place": session.review.find_place(),
        **describe_progress(session),
    }


def describe_progress(session: ReviewSession) -> dict[str, Any]:
    """Return how far the review is."""
    return {"counts": session.review.count_states(), "can_undo": session.review.can_undo}


@router.post("/views")
def open_view(
    session: Session, body: FilterBody, row: int | None = None, resume: bool = False
) -> dict[str, Any]:
    """Choose rows; return a number for them, how many there are, and where to begin.

    That is at a row, or with `resume` at the first one from there that has not been reviewed.
    """
    view, numbers = session.open_view(body.make_filter())
    index = numbers.index(row) if row in numbers else None
    if resume:
        index = session.review.find_unreviewed(numbers, index or 0)
    return {"view": view, "count": len(numbers), "index": index}


@router.get("/views/{view}/index")
def find_in_view(session: Session, view: int, row: int) -> dict[str, Any]:
    """Return where a row is in a view; null if it is not there."""
    numbers = session.find_view(view)
    return {"index": numbers.index(row) if row in numbers else None}


@router.get("/views/{view}")
def read_view(session: Session, view: int, start: int = 0, count: int = 50) -> dict[str, Any]:
    """Return some rows of a view."""
    start, count = max(0, start), min(max(0, count), MAX_PAGE)
    numbers = session.find_view(view)[start : start + count]
    rows = {row["row"]: row for row in session.review.describe_rows(numbers)}
    return {"start": start, "rows": [rows.get(number) for number in numbers]}


@router.get("/rows/{number}")
def read_row(session: Session, number: int) -> dict[str, Any]:
    """Return all that is known of a row."""
    return session.describe_row(number)


@router.get("/rows/{number}/image")
def read_row_image(
    session: Session, number: int, size: Literal["small", "large"] = "large"
) -> Response:
    """Return the image of a row, as JPEG."""
    data = session.thumbnails.make(session.review.find(number), size)
    return Response(data, media_type="image/jpeg", headers=CACHE)


# Steps


@router.post("/rows/{number}/accept")
def accept_row(session: Session, number: int, body: StepBody) -> dict[str, Any]:
    """Accept a caption."""
    return answer_step(session, [session.review.accept(number, body.version)])


@router.post("/rows/{number}/edit")
def edit_row(session: Session, number: int, body: EditBody) -> dict[str, Any]:
    """Replace a caption."""
    row = session.review.edit(number, body.version, body.text, body.confirm)
    return answer_step(session, [row])


@router.post("/rows/{number}/reject")
def reject_row(session: Session, number: int, body: StepBody) -> dict[str, Any]:
    """Take a caption out of the data."""
    return answer_step(session, [session.review.reject(number, body.version, body.confirm)])


@router.post("/replacements/preview")
def preview_replacement(session: Session, body: ReplacementBody) -> dict[str, Any]:
    """Return what replacing a text would do."""
    replacement = body.make_replacement()
    plan = session.review.plan_replacement(replacement, body.filter.make_filter())
    return plan.describe(replacement.pattern)


@router.post("/replacements")
def replace_text(session: Session, body: ReplacementBody) -> dict[str, Any]:
    """Replace a text, as the preview with this stamp has shown."""
    row_filter = body.filter.make_filter()
    rows = session.review.replace(body.make_replacement(), row_filter, body.stamp, body.confirm)
    return answer_step(session, rows)


@router.post("/undo")
def undo_step(session: Session) -> dict[str, Any]:
    """Undo the last step."""
    undone = session.review.undo()
    if undone is None:
        return {"action": None, **answer_step(session, [])}
    return {"action": undone.step.action, **answer_step(session, undone.rows)}


def answer_step(session: ReviewSession, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the rows that a step has changed, and how far the review is."""
    shown = [row.describe() for row in rows[:MAX_PAGE]]
    return {"rows": shown, "count": len(rows), **describe_progress(session)}


@router.put("/place")
def set_place(session: Session, body: PlaceBody) -> dict[str, Any]:
    """Remember what the page shows."""
    session.review.set_place(body.to_place())
    return {}


@router.post("/finish")
def finish_review(session: Session, service: Service) -> dict[str, Any]:
    """Write what has to be written, and end the review."""
    written = session.review.save()
    service.draining = True
    return {"written": written, **describe_progress(session)}


# The captioner


@router.post("/rows/{number}/proposal")
async def propose_caption(session: Session, service: Service, number: int) -> JSONResponse:
    """Caption the image of a row anew; nothing is changed."""
    image = await read_bytes(session, number)
    (served,) = await service.caption([image], PROPOSALS)
    return JSONResponse(schemas.caption_to_json(served))


@router.post("/rows/{number}/explanation")
async def explain_row(
    session: Session, service: Service, number: int, body: TextBody
) -> JSONResponse:
    """Compute where the captioner looks for each word of a caption."""
    image = await read_bytes(session, number)
    given = schemas.ImageInput(data="")  # its bytes are at hand
    fields = schemas.ExplanationFields(image=given, caption=body.text)
    return JSONResponse(await explain_image(service, image, fields, CaptionOptions()))


async def read_bytes(session: ReviewSession, number: int) -> bytes:
    """Return the image file of a row, for the captioner.

    Raises:
        ApiError: There is no captioner.
        ImageError: The image cannot be read.
    """
    if not session.can_caption:
        message = "this review has no captioner: start it with --model"
        raise ApiError(501, "not_available", message)
    image = session.review.find(number).image
    if isinstance(image, bytes):
        return image
    if isinstance(image, ImageRef):
        return await run_in_threadpool(image.read)
    if is_url(image):
        raise ImageError("the image is at an address; download it to caption it here")
    return await run_in_threadpool(read_image_file, image)


def read_image_file(path: str) -> bytes:
    """Return the content of an image file. Raises ImageError."""
    if is_device(path):
        raise ImageError(f"{path}: a pipe or a device, not an image file")
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from None
