"""The page for people, and its files."""

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from cutline.serving.access import STATIC_PREFIX

FOLDER = Path(__file__).parent / "page"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""nothing is loaded from other sites, and no other site may show the page in a frame"""


class PageFiles(StaticFiles):
    """Files of the page, with its headers."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Return a file."""
        response: Response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(HEADERS)
        return response


def add_page(app: FastAPI) -> None:
    """Add the page at / and its files."""

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def show_page() -> Response:
        return FileResponse(FOLDER / "index.html", headers=HEADERS)

    app.mount(STATIC_PREFIX, PageFiles(directory=FOLDER), name="static")
