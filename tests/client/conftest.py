"""A server whose answers a test chooses, and both clients."""

from collections.abc import Iterator

import pytest
from answers import Ask, ask_async, ask_sync
from web_server import WebServer


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture(params=[ask_sync, ask_async], ids=["Client", "AsyncClient"])
def ask(request: pytest.FixtureRequest) -> Ask:
    function: Ask = request.param
    return function
