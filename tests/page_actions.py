"""What people do on the page of the server."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

HOSTILE = "<img src=x onerror=alert(1)>.png"
NAMES = ("a.png", "b.png", HOSTILE, "scan.tiff")
"""files of `write_folder`; browsers show all of them but the last"""
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}


def make_file(name: str, content: bytes, kind: str = "image/png") -> dict[str, Any]:
    """Return a file for `add_files` that is on no disk."""
    return {"name": name, "mimeType": kind, "buffer": content}


def add_files(page: "Page", files: list[Path] | list[dict[str, Any]]) -> None:
    """Choose files."""
    page.set_input_files("#files", files)  # type: ignore[arg-type]


def wait_for_captions(page: "Page", count: int) -> None:
    """Wait until so many images have a caption or an error, and no others are left."""
    page.wait_for_function(
        """count => !document.querySelector("[data-state=waiting], [data-state=writing]")
            && document.querySelectorAll("[data-state=done], [data-state=failed]").length == count
        """,
        arg=count,
    )


def card_of(page: "Page", name: str) -> "Locator":
    """Return the image of a name, and what belongs to it."""
    return page.get_by_role("listitem").filter(has=page.get_by_text(name, exact=True))


def read_texts(page: "Page") -> list[str]:
    """Return all captions."""
    return page.locator(".caption").all_text_contents()


def download(page: "Page", name: str) -> bytes:
    """Choose an item of the menu; return the file."""
    page.locator("#download summary").click()
    with page.expect_download() as downloading:
        page.get_by_role("button", name=name).click()
    return Path(downloading.value.path()).read_bytes()
