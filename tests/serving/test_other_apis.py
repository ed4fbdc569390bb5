"""What holds for all APIs: the caption is cutline's own, and client text is no prefix."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_captioner import make_captioner
from serving_process import RunningServer, read_url
from starlette.testclient import TestClient

from cutline.captioner import Captioner
from cutline.config import ServeConfig, ServeLimits, UrlPolicy
from cutline.serving.app import make_app
from cutline.serving.service import CaptionService, ServedModels

Body = dict[str, Any]


def make_chat(image: str, text: str) -> Body:
    """Return a request to OpenAI's API."""
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": image}}]
    return {"model": "tiny", "messages": [{"role": "user", "content": parts}]}


def make_generate(image: str, text: str) -> Body:
    """Return a request to Ollama's API."""
    return {"model": "tiny", "prompt": text, "images": [image], "stream": False}


def make_ollama_chat(image: str, text: str) -> Body:
    """Return a request to Ollama's API."""
    message = {"role": "user", "content": text, "images": [image]}
    return {"model": "tiny", "messages": [message], "stream": False}


APIS: dict[str, tuple[Callable[[str, str], Body], Callable[[Any], str]]] = {
    "/v1/captions": (
        lambda image, text: {"images": [{"data": image}]},
        lambda answer: answer["captions"][0]["text"],
    ),
    "/v1/chat/completions": (
        make_chat,
        lambda answer: answer["choices"][0]["message"]["content"],
    ),
    "/api/generate": (make_generate, lambda answer: answer["response"]),
    "/api/chat": (make_ollama_chat, lambda answer: answer["message"]["content"]),
    "/sdapi/v1/interrogate": (
        lambda image, text: {"image": image, "model": "clip"},
        lambda answer: answer["caption"],
    ),
    "/hf": (lambda image, text: {"inputs": image}, lambda answer: answer[0]["generated_text"]),
}
"""by path: what makes a request of an image and a text, and what reads the caption"""
CHATS = ("/v1/chat/completions", "/api/generate", "/api/chat")
OTHERS = [path for path in APIS if path != "/v1/captions"]


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return make_captioner()


@pytest.fixture(scope="module")
def ask(captioner: Captioner) -> Iterator[Callable[..., Any]]:
    yield from start(captioner)


@pytest.fixture(scope="module")
def ask_with_prefix(captioner: Captioner) -> Iterator[Callable[..., Any]]:
    yield from start(captioner, client_text="prefix", served_model_name="our/model")


def start(captioner: Captioner, **flags: Any) -> Iterator[Callable[..., Any]]:
    """Yield a function that sends a request, of a path, and returns the response."""
    config = ServeConfig(**flags)
    name = config.served_model_name or "tiny"
    service = CaptionService(name, config, ServeLimits(), UrlPolicy())
    service.start(ServedModels(captioner), batch_size=2)
    with TestClient(make_app(service), base_url="http://localhost") as client:
        yield partial(client.request, "POST")
    service.close()


def read_caption(path: str, response: Any) -> str:
    """Return the caption of a response."""
    assert response.status_code == 200, response.text
    return APIS[path][1](response.json())


def test_without_settings_the_caption_is_that_of_python(
    api_server: RunningServer, api_images: list[bytes], api_base64: list[str]
) -> None:
    for caption, image, encoded in zip(
        api_server.captioner.caption(api_images[:2]), api_images[:2], api_base64[:2], strict=True
    ):
        for path, (make_body, read) in APIS.items():
            body = make_body(f"data:image/webp;base64,{encoded}", "Describe this image in detail")
            status, headers, content = read_url(f"{api_server.url}{path}", body)
            assert status == 200, content
            assert read(json.loads(content)) == caption.text, path
            assert "x-ignored-fields" not in headers, path
        for path in ("/hf", "/v1/captions"):
            _, _, content = read_url(f"{api_server.url}{path}", image, Content_Type="image/jpeg")
            assert APIS[path][1](json.loads(content)) == caption.text


@pytest.fixture(scope="module")
def captions(captioner: Captioner, api_images: list[bytes]) -> dict[str | None, str]:
    """Return the captions of an image, by prompt."""
    prompts = (None, "", "two", "a red")
    captions = {each: captioner.caption(api_images[:1], each)[0].text for each in prompts}
    assert len(set(captions.values())) == len(prompts)
    return captions


@pytest.mark.parametrize("path", OTHERS)
def test_client_text_and_caption_prompt(
    path: str,
    captions: dict[str | None, str],
    ask: Callable[..., Any],
    ask_with_prefix: Callable[..., Any],
    api_base64: list[str],
) -> None:
    body = APIS[path][0](api_base64[0], "a red")
    assert read_caption(path, ask(path, json=body)) == captions[None]
    assert read_caption(path, ask(path, json=body | {"caption_prompt": "two"})) == captions["two"]
    given = body | ({"model": "our/model"} if "model" in body else {}) | {"caption_prompt": ""}
    assert read_caption(path, ask_with_prefix(path, json=given)) == captions[""]
    if path in CHATS:
        for name in ("our/model", "our/model:latest", None, ""):
            response = ask_with_prefix(path, json=body | {"model": name})
            assert read_caption(path, response) == captions["a red"]
        blank = APIS[path][0](api_base64[0], " ") | {"model": None}
        assert read_caption(path, ask_with_prefix(path, json=blank)) == captions[None]
        long = APIS[path][0](api_base64[0], "red " * 60) | {"model": None}
        assert ask_with_prefix(path, json=long).status_code == 422
        assert ask_with_prefix(path, json=body).status_code == 404  # its name is another


@pytest.mark.parametrize("path", OTHERS)
def test_ignored_fields_are_listed(
    path: str, ask: Callable[..., Any], api_base64: list[str]
) -> None:
    body = APIS[path][0](api_base64[0], "Describe this image")
    response = ask(path, json=body | {"mirostat": 1, "tools": [], "nothing": None})
    assert response.headers["x-ignored-fields"] == "mirostat, tools"
    hostile = {"a\r\nSet-Cookie: b": 1, "ü, b": 2, "x" * 5000: 4}
    response = ask(path, json=body | hostile)
    assert response.status_code == 200
    header = response.headers["x-ignored-fields"]
    assert header.startswith("a%0D%0ASet-Cookie%3A%20b, %C3%BC%2C%20b, xxx")
    response = ask(path, json=body | {f"field{index}": 1 for index in range(1000)})
    header = response.headers["x-ignored-fields"]
    assert header.endswith(", ...")
    assert len(header) < 1100
    response = ask(path, json=body | {"a": 1, "": 2})
    assert response.headers["x-ignored-fields"] == 'a, ""'
    if path == "/api/generate":
        options = {"mirostat": 1, "num_ctx": 1024, "top_k": 5}
        response = ask(path, json=body | {"options": options, "think": True})
        assert response.headers["x-ignored-fields"] == "think, options.mirostat, options.top_k"
    if path == "/v1/chat/completions":
        given = {"user": "a", "store": False, "seed": 1, "logprobs": True, "top_p": 0.5}
        response = ask(path, json=body | given)
        assert response.headers["x-ignored-fields"] == "logprobs, top_p"


def test_an_interrogation_needs_an_image(ask: Callable[..., Any]) -> None:
    for image, status, kind in (
        (None, 422, "invalid_request"),
        ("", 422, "invalid_image"),
        ("***", 400, "invalid_base64"),
        ("bm8gaW1hZ2U=", 415, "unsupported_media_type"),
        ("http://127.0.0.1/a.png", 403, "forbidden"),
    ):
        response = ask("/sdapi/v1/interrogate", json={"image": image, "model": "clip"})
        assert response.status_code == status
        assert response.json()["error"]["type"] == kind
        assert response.json()["error"]["param"] == "image"


def test_requests_are_described(ask: Callable[..., Any], captioner: Captioner) -> None:
    """Every request body is in the OpenAPI document, without references that lead nowhere."""
    document = ask.func.__self__.get("/openapi.json").json()  # type: ignore[attr-defined]
    for path in [*OTHERS, "/api/show"]:
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert content["application/json"]["schema"]["properties"]
    for name in re.findall(r'"\$ref": "([^"]*)"', json.dumps(document)):
        assert name.removeprefix("#/components/schemas/") in document["components"]["schemas"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values),
    max_leaves=5,
)
MANY = ["temperature", "top_p", "top_k", "seed", "n", "max_tokens", "stream", "stream_options"]
NAMES = [
    *("messages", "model", "caption_prompt", "response_format", "image", "images", "prompt"),
    *("options", "format", "keep_alive", "inputs", "parameters", "name", *MANY),
]


@pytest.mark.parametrize("path", [*OTHERS, "/api/show"])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3))
def test_wrong_fields_are_never_an_error_of_the_server(
    path: str, ask: Callable[..., Any], fields: Body
) -> None:
    valid = APIS[path][0]("eA==", "") if path in APIS else {}
    for body in (fields, valid | fields):
        headers = {"Content-Type": "application/json"}
        response = ask(path, content=json.dumps(body), headers=headers)  # may hold Infinity
        assert response.status_code < 500
        assert response.status_code != 404 or "model" in body or "name" in body
        error = response.json()
        if response.status_code >= 400:
            is_ollama = path.startswith("/api/")
            assert isinstance(error["error"], str if is_ollama else dict)
            assert not re.search(r'Traceback|File "', response.text)
