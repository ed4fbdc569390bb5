"""`start_server`: a real server, in a process of its own; see `forked_server`."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forked_server import START_SECONDS, ForkedServer, fork_server
from random_captioner import save_captioner

from cutline.captioner import Captioner


@dataclass(frozen=True)
class RunningServer(ForkedServer):
    """A server that has loaded its model.

    Attributes:
        captioner: The same captioner, in this process.
    """

    captioner: Captioner


@contextmanager
def start_server(folder: Path, *flags: str) -> Iterator[RunningServer]:
    """Run `cutline serve` with a random captioner, at a free port, until the context ends.

    Args:
        folder: Gets the captioner, in a folder `tiny`, which also names the model.
        *flags: Further flags.
    """
    model = folder / "tiny"
    captioner = save_captioner(model)
    with fork_server(folder, model, "--precision", "fp32", *flags) as server:
        yield RunningServer(*vars(server).values(), captioner)


def read_url(url: str, data: object = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers (names in lower case) and the body of a response.

    Args:
        url: The address.
        data: What to send: bytes, or what becomes JSON; nothing makes it a GET.
        **headers: Headers; `_` in their names stands for `-`.
    """
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None and not isinstance(data, bytes):
        data = json.dumps(data).encode()
        named = {"Content-Type": "application/json"} | named
    request = urllib.request.Request(url, data, named)
    try:
        response = urllib.request.urlopen(request, timeout=START_SECONDS)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        lower = {name.lower(): value for name, value in response.headers.items()}
        return response.status, lower, response.read()
