"""A real server in a thread of this process, for tests of its page."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from page_actions import NAMES
from random_captioner import draw_images, save_captioner

import cutline
from cutline.captioner import Captioner
from cutline.config import ServeConfig, ServeLimits, UrlPolicy
from cutline.serving.server import Server, format_address, listen, make_uvicorn_config
from cutline.serving.service import CaptionService, ServedModels


class PageServer:
    """The server, whose models can be started later.

    Attributes:
        url: Its address.
        service: What it runs.
    """

    def __init__(self, tokens: tuple[bytes, ...], limits: ServeLimits) -> None:
        config = ServeConfig(port=0, explanations=True)
        self.service = CaptionService("small", config, limits, UrlPolicy())
        self._listener = listen(config)
        self.url = f"{format_address(config, self._listener)}/"
        self._server = Server(make_uvicorn_config(self.service, tokens), self.service)
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],))

    def start(self, captioner: Captioner, batch_size: int = 4) -> None:
        """Let it have its model."""
        self.service.start(ServedModels(captioner, None), batch_size)

    def __enter__(self) -> "PageServer":
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.service.close()
        self._listener.close()


@contextmanager
def serve_page(
    captioner: Captioner | None, tokens: tuple[bytes, ...] = (), **limits: int
) -> Iterator[PageServer]:
    """Serve the page; without a captioner, the server says that it is loading one."""
    with PageServer(tokens, ServeLimits(**limits)) as server:
        if captioner:
            server.start(captioner)
        yield server


def load_captioner(folder: Path) -> Captioner:
    """Load a captioner whose heat-maps may be those of gradients."""
    return cutline.load(folder, device="cpu", precision="fp32", engine="eager")


def write_folder(folder: Path) -> Path:
    """Write a captioner and images to a folder, and return it."""
    save_captioner(folder / "model")
    for image, name in zip(draw_images(len(NAMES)), NAMES, strict=True):
        image.save(folder / name)
    return folder
