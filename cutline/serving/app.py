"""The application: all routes, behind the checks and limits that apply to every request."""

import time
from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import cutline
from cutline.errors import CutlineError
from cutline.serving.access import STATIC_PREFIX, AccessControl
from cutline.serving.errors import ApiError, error_response, internal_error, to_api_error
from cutline.serving.info import describe_server
from cutline.serving.limits import RequestLimits
from cutline.serving.metrics import CONTENT_TYPE_LATEST
from cutline.serving.native import router as native_router
from cutline.serving.other_apis import hugging_face, interrogate, ollama, ollama_models, openai
from cutline.serving.page import add_page
from cutline.serving.service import CaptionService

HEALTH_PATHS = ("/healthz", "/readyz", "/metrics")
CORS_SECONDS = 3600
_TYPES = {404: "not_found", 405: "method_not_allowed"}


def make_app(service: CaptionService, tokens: Sequence[bytes] = ()) -> ASGIApp:
    """Return the application.

    Args:
        service: Runs the models.
        tokens: Clients must send one of these, if there are any.
    """
    app = FastAPI(
        title="cutline",
        version=cutline.__version__,
        summary="Captions for images",
        docs_url=None,  # these pages load scripts from other sites
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(native_router)
    for api in (openai, ollama, ollama_models, interrogate, hugging_face):
        app.include_router(api.router)
    add_status_routes(app, service)
    add_page(app)
    add_error_handlers(app)
    checked: ASGIApp = RequestLimits(app, service.limits)
    checked = Tracking(AccessControl(checked, service.config, tokens), service)
    if service.config.cors_origin:
        checked = CORSMiddleware(
            checked,
            allow_origins=[origin.lower() for origin in service.config.cors_origin],
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After"],
            max_age=CORS_SECONDS,
        )
    return checked


def add_status_routes(app: FastAPI, service: CaptionService) -> None:
    """Add the routes for monitoring."""

    @app.get("/healthz")
    async def check_health() -> dict[str, str]:
        """Tell whether the server works: not if its model failed, so that it must be restarted."""
        if service.has_failed:
            service.check_loaded()
        return {"status": "ok"}

    @app.get("/readyz")
    async def check_readiness() -> dict[str, str]:
        """Tell whether the server takes requests: not while it loads or stops."""
        service.check_ready()
        return {"status": "ready"}

    @app.get("/metrics")
    async def read_metrics() -> Response:
        """Return what the server counts, for Prometheus."""
        return Response(service.metrics.format(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/info")
    async def read_info() -> JSONResponse:
        """Return the defaults, limits and features of the server."""
        return JSONResponse({"version": cutline.__version__, **describe_server(service)})


def add_error_handlers(app: FastAPI) -> None:
    """Let every error be answered in the shape of its API."""

    async def answer(request: Request, error: Exception) -> Response:
        return error_response(to_api_error(error), request.scope)

    async def answer_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = _TYPES.get(error.status_code, "invalid_request")
        api_error = ApiError(error.status_code, kind, str(error.detail))
        return error_response(api_error, request.scope, error.headers)

    async def answer_unexpected(request: Request, error: Exception) -> Response:
        return error_response(internal_error(), request.scope)  # `Tracking` logs it

    app.add_exception_handler(Exception, answer_unexpected)
    app.add_exception_handler(ApiError, answer)
    app.add_exception_handler(CutlineError, answer)
    app.add_exception_handler(HTTPException, answer_http)


class Tracking:
    """ASGI middleware: counts and times requests, and answers errors that nobody expected."""

    def __init__(self, app: ASGIApp, service: CaptionService) -> None:
        """Wrap an application."""
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        path = scope.get("path", "")
        if scope["type"] != "http" or path in HEALTH_PATHS or path.startswith(STATIC_PREFIX):
            await self._app(scope, receive, send)
            return
        start, service = time.monotonic(), self._service
        has_started = False

        async def note_start(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        service.num_active += 1
        try:
            service.check_draining()
            await self._app(scope, receive, note_start)
        except Exception as error:
            api_error = to_api_error(error)  # logs it
            if not has_started:
                await error_response(api_error, scope)(scope, receive, send)
        finally:
            service.num_active -= 1
            self._record(scope, time.monotonic() - start)

    def _record(self, scope: Scope, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._service.metrics.duration.labels(route).observe(seconds)
        if error_type := scope.get("state", {}).get("error_type"):
            self._service.metrics.errors.labels(error_type).inc()
            if error_type == "queue_full":
                self._service.metrics.queue_full.inc()
