"""Ollama's API, with the official client and with what other programs send."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import ollama
import pytest
from serving_process import RunningServer, read_url

import cutline


@pytest.fixture(scope="module")
def client(api_server: RunningServer) -> Iterator[ollama.Client]:
    client = ollama.Client(host=api_server.url)
    yield client
    client._client.close()


def read_lines(server: RunningServer, path: str, body: object) -> list[dict[str, Any]]:
    """Return the lines of a streamed response."""
    status, headers, content = read_url(f"{server.url}{path}", body)
    assert status == 200
    assert headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in content.splitlines()]


def test_generate(
    api_server: RunningServer, client: ollama.Client, api_images: list[bytes]
) -> None:
    captions = api_server.captioner.caption(api_images)
    for count in (1, 3):
        text = "\n".join(each.text for each in captions[:count])
        given: dict[str, Any] = {"prompt": "Describe this image", "images": api_images[:count]}
        whole = client.generate("tiny", **given)
        parts = list(client.generate("tiny:latest", **given, stream=True))
        assert whole.response == text
        assert "".join(part.response or "" for part in parts) == text
        assert len(parts) > 1
        assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
        for last in (whole, parts[-1]):
            assert last.model == "tiny:latest"
            assert last.done_reason == "length"
            assert last.eval_count == sum(len(each.token_ids) for each in captions[:count])
            assert last.prompt_eval_count == count * 4
            assert last.total_duration
            assert 0 < last.total_duration < 60e9
            assert last.eval_duration == last.total_duration
            assert last.created_at
            age = datetime.now(UTC) - datetime.fromisoformat(last.created_at)
            assert abs(age.total_seconds()) < 60


def test_chat(
    api_server: RunningServer,
    client: ollama.Client,
    api_images: list[bytes],
    api_base64: list[str],
) -> None:
    texts = [each.text for each in api_server.captioner.caption(api_images)]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": "What is this?", "images": api_images[2:]},
        {"role": "assistant", "content": "A dog."},
        {"role": "user", "content": "And these?", "images": api_images[:2]},
    ]
    whole = client.chat("tiny", messages=messages)
    assert whole.message.content == "\n".join(texts[:2])
    assert whole.message.role == "assistant"
    parts = list(client.chat("tiny", messages=messages, stream=True))
    assert "".join(part.message.content or "" for part in parts) == "\n".join(texts[:2])
    assert parts[-1].done
    body = {"messages": [{"role": "user", "content": "", "images": api_base64[:1]}]}
    lines = read_lines(api_server, "/api/chat", body)  # by default in parts
    assert "".join(line["message"]["content"] for line in lines) == texts[0]
    assert "eval_count" in lines[-1]


def test_options(api_server: RunningServer, client: ollama.Client, api_images: list[bytes]) -> None:
    def ask(**options: Any) -> str | None:
        return client.generate("tiny", images=api_images[:1], options=options).response

    def caption(**settings: Any) -> str:
        return api_server.captioner.caption(api_images[:1], **settings)[0].text

    assert ask(num_ctx=4096, temperature=0) == caption()
    assert ask(num_predict=3) == caption(max_length=7)
    assert ask(num_predict=-1) == ask(num_predict=10**9) == caption(max_length=48)
    assert ask(repeat_penalty=1.5) == caption(repetition_penalty=1.5)
    settings = {"temperature": 1.5, "top_p": 0.8, "top_k": 7, "seed": 4}
    assert ask(**settings) == caption(sample=True, **settings)
    response = client.generate("tiny", images=api_images[:1], options={"num_predict": 2})
    assert response.done_reason == "length"


def test_models(api_server: RunningServer, client: ollama.Client) -> None:
    (model,) = client.list().models
    assert model.model == "tiny:latest"
    num_weights = sum(each.numel() for each in api_server.captioner.model.parameters())
    assert model.size == num_weights * 4
    assert model.digest
    assert len(model.digest) == 64
    assert model.modified_at
    for name in ("tiny", "tiny:latest"):
        shown = client.show(name)
        assert shown.capabilities == ["completion", "vision"]
        assert shown.details == model.details
        assert shown.modelinfo
        assert shown.modelinfo["general.parameter_count"] == num_weights
        assert shown.modelinfo["blip.context_length"] == 48
    (running,) = client.ps().models
    assert running.name == "tiny:latest"
    assert running.expires_at
    assert running.expires_at > datetime.now(UTC)
    version = json.loads(read_url(f"{api_server.url}/api/version")[2])
    assert version == {"version": cutline.__version__}
    old = read_url(f"{api_server.url}/api/show", {"name": "tiny", "verbose": True})
    assert json.loads(old[2])["capabilities"] == ["completion", "vision"]
    assert client._client.head("/").status_code == 200


def test_loading_and_unloading_have_nothing_to_do(client: ollama.Client) -> None:
    assert client.generate("tiny").done_reason == "load"
    assert client.generate("tiny", keep_alive=0).done_reason == "unload"
    response = client.chat("tiny", messages=[])
    assert response.done
    assert response.message.content == ""


def test_errors(api_server: RunningServer, client: ollama.Client, api_images: list[bytes]) -> None:
    broken = api_images[0][:200]

    def fail(status: int, **fields: Any) -> str:
        fields = {"model": "tiny", "images": api_images[:1]} | fields
        with pytest.raises(ollama.ResponseError) as caught:
            list(client.generate(**fields, stream=True))
        assert caught.value.status_code == status
        with pytest.raises(ollama.ResponseError) as whole:
            client.generate(**fields)
        assert whole.value.status_code == status
        assert caught.value.error == whole.value.error
        return whole.value.error

    assert "'llava'" in fail(404, model="llava")
    assert "JSON" in fail(400, format="json")
    assert "JSON" in fail(400, format={"type": "object", "properties": {}})
    assert "no image" in fail(422, images=[], prompt="Why is the sky blue?")
    with pytest.raises(ollama.ResponseError, match="no image"):
        client.chat("tiny", messages=[{"role": "user", "content": ""}])
    assert "image" in fail(415, images=[b"no image"])
    assert "image" in fail(422, images=[broken])
    assert "temperature" in fail(422, options={"temperature": -1})
    with pytest.raises(ollama.ResponseError, match="no model"):
        client.show("llava")
    stream = client.generate("tiny", images=[api_images[0], broken], stream=True)
    parts: list[str] = []
    with pytest.raises(ollama.ResponseError, match="image"):  # amid the response
        parts.extend(part.response or "" for part in stream)
    assert "".join(parts) == api_server.captioner.caption(api_images[:1])[0].text + "\n"


def test_leaving_a_stream_cancels_its_images(
    api_server: RunningServer, client: ollama.Client, api_images: list[bytes]
) -> None:
    def read_metric(name: str) -> float:
        text = read_url(f"{api_server.url}/metrics")[2].decode()
        return next(float(each.split()[1]) for each in text.splitlines() if each.startswith(name))

    before = read_metric("cutline_images_total")
    options = {"num_predict": -1}
    stream = client.generate("tiny", images=api_images[:1] * 16, options=options, stream=True)
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    end = time.monotonic() + 30
    while read_metric("cutline_requests_running") or read_metric("cutline_requests_waiting"):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert read_metric("cutline_images_total") < before + 16


def test_what_programs_send(
    api_server: RunningServer, api_images: list[bytes], api_base64: list[str]
) -> None:
    """PhotoPrism, LLM Vision for Home Assistant, and Open WebUI."""
    captioner = api_server.captioner
    texts = [each.text for each in captioner.caption(api_images)]
    photoprism = {
        "id": "b2e0bfa0-1c5a-4bd5-9c0e-0a4a4b0a3f0d",
        "model": "tiny:latest",
        "prompt": "Create a caption with exactly one sentence in the active voice.",
        "suffix": "",
        "options": {"temperature": 0.1, "seed": 5},
        "stream": False,
        "images": api_base64[:1],
    }
    _, headers, content = read_url(f"{api_server.url}/api/generate", photoprism)
    sampled = captioner.caption(api_images[:1], sample=True, temperature=0.1, seed=5)
    assert json.loads(content)["response"] == sampled[0].text
    assert headers["x-ignored-fields"] == "suffix"
    llm_vision = {
        "model": "tiny",
        "messages": [
            {"role": "user", "content": "Image 1:", "images": [api_base64[0]]},
            {"role": "user", "content": "Image 2:", "images": [api_base64[1]]},
            {"role": "user", "content": "What happens in these images?"},
        ],
        "stream": False,
        "options": {"num_predict": 100, "temperature": 0},
    }
    _, _, content = read_url(f"{api_server.url}/api/chat", llm_vision)
    longer = captioner.caption(api_images[:2], max_length=48)
    assert json.loads(content)["message"]["content"] == "\n".join(each.text for each in longer)
    open_webui = {
        "model": "tiny:latest",
        "messages": [
            {"role": "user", "content": "What is in this image?", "images": [api_base64[2]]}
        ],
        "options": {},
        "stream": True,
        "keep_alive": "5m",
    }
    lines = read_lines(api_server, "/api/chat", open_webui)
    assert "".join(line["message"]["content"] for line in lines) == texts[2]
