"""Requests made from the OpenAPI description, valid and invalid: none is an error of the server."""

import base64
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_http import count_work, make_png, wait_until
from serving_process import RunningServer, read_url, start_server

IMAGE = base64.b64encode(make_png()).decode()
IMAGE_FIELDS = ("data", "image", "inputs", "images")
"""fields of JSON that hold an image, or several, in Base64"""


def put_images(value: Any) -> Any:
    """Return JSON whose images are images: random text hardly ever is one."""
    if isinstance(value, list):
        return [put_images(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _put_image(name, each) for name, each in value.items()}


def _put_image(name: str, value: Any) -> Any:
    if name not in IMAGE_FIELDS:
        return IMAGE_URL if name == "url" and isinstance(value, str) else put_images(value)
    if isinstance(value, list):
        return [IMAGE if isinstance(each, str) else put_images(each) for each in value[:3]]
    return IMAGE if isinstance(value, str) else put_images(value)


IMAGE_URL = f"data:image/png;base64,{IMAGE}"


def check_requests(server: RunningServer, num_examples: int) -> Counter[int]:
    """Send requests, none of which may be an error of the server; return how often each status."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) > 10
    seen: Counter[int] = Counter()

    @settings(
        max_examples=num_examples,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.one_of(
            operation.as_strategy(generation_mode=mode)
            for operation in operations
            for mode in schemathesis.GenerationMode
        ),
        st.booleans(),
    )
    def check(case: schemathesis.Case, has_images: bool) -> None:
        if has_images and case.media_type == "application/json":
            case.body = put_images(case.body)
        response = case.call(timeout=60)
        seen[response.status_code] += 1
        assert response.status_code < 500 or is_expected(case, response), response.text

    check()
    wait_until(lambda: count_work(server.url) == 0)
    assert read_url(f"{server.url}/healthz")[0] == 200
    assert server.log.count("\n") == 2, server.log
    return seen


def is_expected(case: schemathesis.Case, response: schemathesis.Response) -> bool:
    """Return whether a request asked for what this server has not, or for too short a deadline."""
    if response.status_code == 504:
        return isinstance(case.body, dict) and "deadline" in case.body
    return response.status_code == 501 and response.json()["error"]["type"] == "not_available"


def test_no_request_is_an_error_of_the_server(api_server: RunningServer) -> None:
    seen = check_requests(api_server, 200)
    assert seen[200] > 20
    assert seen[422] > 20


@pytest.mark.slow
def test_none_of_10_000_is(tmp_path: Path) -> None:
    with start_server(tmp_path, "--max-candidates", "16", "--client-text", "prefix") as server:
        assert set(check_requests(server, 10_000)) >= {200, 400, 404, 415, 422, 501}
