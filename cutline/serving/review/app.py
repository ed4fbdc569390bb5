"""The application of a review: its page and routes, behind a secret in the address."""

import hmac
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cutline.errors import DataError
from cutline.serving import page
from cutline.serving.access import STATIC_PREFIX, AccessControl
from cutline.serving.app import Tracking, add_error_handlers
from cutline.serving.errors import ApiError, error_response
from cutline.serving.limits import RequestLimits
from cutline.serving.review.conflicts import NoRowError, OwnCaptionError, StaleRowError
from cutline.serving.review.routes import router
from cutline.serving.review.session import ReviewSession
from cutline.serving.service import CaptionService

FOLDER = Path(__file__).parent / "page"
MAX_ROWS = 100
"""rows of an error that are sent"""
FULL_DISK = 507


def make_review_app(session: ReviewSession, service: CaptionService) -> ASGIApp:
    """Return the application.

    Args:
        session: The review.
        service: Has settings and limits of the server, and runs the captioner, if there is one.
    """
    app = FastAPI(title="cutline review", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.session, app.state.service = session, service
    app.include_router(router)
    app.mount(STATIC_PREFIX, page.PageFiles(directory=page.FOLDER), name="static")
    app.mount("/review/", page.PageFiles(directory=FOLDER), name="review")

    @app.get("/")
    async def show_page() -> Response:
        return FileResponse(FOLDER / "index.html", headers=page.HEADERS)

    add_error_handlers(app)
    _add_review_errors(app)
    limited = RequestLimits(Tracking(app, service), service.limits)
    return AccessControl(SecretPath(limited, session.key), service.config)


class SecretPath:
    """ASGI middleware: lets those in who know the secret, the first part of the path."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        """Wrap an application."""
        self._app, self._key = app, key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given, slash, _ = scope["path"].removeprefix("/").partition("/")
        if not hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._key):
            answer: Response = PlainTextResponse(
                "Open the address that `cutline review` has printed.\n", 403, page.HEADERS
            )
        elif not slash:
            answer = Response(status_code=307, headers={"Location": f"/{given}/"})
        else:
            await self._app({**scope, "root_path": f"/{given}"}, receive, send)
            return
        await answer(scope, receive, send)


def _add_review_errors(app: FastAPI) -> None:
    def answer(error: ApiError, request: Request, **more: Any) -> JSONResponse:
        response = error_response(error, request.scope)
        return JSONResponse({**error.content, **more}, error.status) if more else response

    @app.exception_handler(StaleRowError)
    async def answer_stale(request: Request, error: StaleRowError) -> Response:
        rows = [row.describe() for row in error.rows[:MAX_ROWS]]
        return answer(ApiError(409, "stale", str(error)), request, rows=rows)

    @app.exception_handler(OwnCaptionError)
    async def answer_own(request: Request, error: OwnCaptionError) -> Response:
        rows = [row.describe() for row in error.rows[:MAX_ROWS]]
        conflict = ApiError(409, "confirm", str(error), "confirm")
        return answer(conflict, request, rows=rows, count=len(error.rows))

    @app.exception_handler(NoRowError)
    async def answer_no_row(request: Request, error: NoRowError) -> Response:
        return answer(ApiError(404, "not_found", str(error)), request)

    @app.exception_handler(DataError)
    async def answer_data(request: Request, error: DataError) -> Response:
        return answer(ApiError(FULL_DISK, "not_written", str(error)), request)

    @app.exception_handler(RequestValidationError)
    async def answer_invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][1:]) or None
        invalid = ApiError(422, "invalid_request", f"{param}: {first['msg']}", param)
        return answer(invalid, request)
