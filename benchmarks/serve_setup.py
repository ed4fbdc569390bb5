"""Models, images and servers that the parts of `serve.py` share."""

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from inputs import PHOTOGRAPH, make_images, write_model, write_photographs
from load import make_upload, run_closed
from results import progress
from servers import RunningServer, run_cutline

import cutline
from cutline.config import CaptionConfig

MAX_DEADLINE = 3600
"""seconds that requests have, except in overload: those of a busy machine take long"""


class Setup:
    """Models with random weights, JPEG files, and the server that captions them."""

    def __init__(self, options: Any, folder: Path) -> None:
        """Write the files.

        Args:
            options: Those of `serve.py`.
            folder: Where files may be written.
        """
        self.options, self.folder = options, folder
        self.images = self._read_images()
        self._servers: dict[str, RunningServer] = {}
        self._contexts = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._contexts.close()

    def _read_images(self) -> list[bytes]:
        count = self.options.num_images
        if self.options.images:
            files = sorted(Path(self.options.images).glob("*.jp*g"))
        else:
            files = write_photographs(self.folder / "images", make_images(count, *PHOTOGRAPH))
        return [file.read_bytes() for file in itertools.islice(itertools.cycle(files), count)]

    def find_model(self, size: str) -> Path:
        """Return the folder of a model, which is written on first use."""
        model = self.folder / size
        if not model.exists():
            progress.print(f"drawing random weights: {size}")
            write_model(model, CaptionConfig.preset(size))
        return model

    @cached_property
    def captioner(self) -> cutline.Captioner:
        """Return the captioner of this process."""
        options = self.options
        model = self.find_model(options.size) / "cutline"
        return cutline.load(model, options.device, options.precision)

    def find_server(self, size: str = "") -> RunningServer:
        """Return `cutline serve` with a model of a size, which is started on first use."""
        options, size = self.options, size or self.options.size
        if size not in self._servers:
            flags = ["--device", options.device, "--precision", options.precision]
            flags += ["--batch-size", str(options.batch_size), "--deadline", str(MAX_DEADLINE)]
            log = self.folder / f"{size}.log"
            context = run_cutline(self.find_model(size) / "cutline", log, *flags)
            self._servers[size] = server = self._contexts.enter_context(context)
            requests = make_uploads(server, self.images)  # to warm up
            run_closed(server.address, requests[: options.batch_size], options.batch_size)
        return self._servers[size]

    @cached_property
    def capacity(self) -> float:
        """Return the images per second of the server when its batch is full."""
        server = self.find_server()
        requests = make_uploads(server, self.images)
        load = run_closed(server.address, requests, self.options.batch_size)
        load.require_captions()
        return len(requests) / load.seconds


def make_uploads(server: RunningServer, images: Sequence[bytes], **fields: object) -> list[bytes]:
    """Return a request for each image."""
    return [make_upload(f"{server.address}/v1/captions", image, **fields) for image in images]
