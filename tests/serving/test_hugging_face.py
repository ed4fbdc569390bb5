"""Hugging Face's API, with the official client."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from serving_process import RunningServer, read_url


@pytest.fixture(scope="module")
def client(api_server: RunningServer) -> InferenceClient:
    return InferenceClient(model=f"{api_server.url}/hf")


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client use the network, even where the hub is out of reach."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def test_the_caption_of_an_image(
    api_server: RunningServer, client: InferenceClient, api_images: list[bytes], tmp_path: Path
) -> None:
    text = api_server.captioner.caption(api_images[:1])[0].text
    for name in ("a.png", "a.jpg", "a.txt", "a"):  # the client guesses a type from the suffix
        path = tmp_path / name
        path.write_bytes(api_images[0])
        assert client.image_to_text(path).generated_text == text
    assert client.image_to_text(api_images[0]).generated_text == text
    status, _, content = read_url(f"{api_server.url}/hf", api_images[0])  # a form, says urllib
    assert (status, json.loads(content)) == (200, [{"generated_text": text}])


def test_parameters(
    api_server: RunningServer, api_images: list[bytes], api_base64: list[str]
) -> None:
    def ask(**fields: Any) -> tuple[str, str | None]:
        body = {"inputs": api_base64[0]} | fields
        status, headers, content = read_url(f"{api_server.url}/hf", body)
        assert status == 200, content
        (result,) = json.loads(content)
        return result["generated_text"], headers.get("x-ignored-fields")

    def caption(**settings: Any) -> str:
        return api_server.captioner.caption(api_images[:1], **settings)[0].text

    assert ask() == ask(parameters={}) == (caption(), None)
    assert ask(inputs=f"data:image/png;base64,{api_base64[0]}") == (caption(), None)
    assert ask(caption_prompt="a red") == (caption(prompt="a red"), None)
    assert ask(parameters={"max_new_tokens": 3}) == (caption(max_length=7), None)
    nested = {"generation_parameters": {"num_beams": 5, "max_length": 12, "early_stopping": True}}
    ignored = "parameters.early_stopping"
    assert ask(parameters=nested) == (caption(num_beams=5, max_length=12), ignored)
    sampling = {"do_sample": True, "seed": 3}
    assert ask(parameters=sampling) == (caption(sample=True, seed=3), None)
    ignored = "parameters.num_beams, parameters.max_length"
    unused = sampling | {"num_beams": 5, "max_length": 9, "max_new_tokens": 3}
    assert ask(parameters=unused) == (caption(sample=True, seed=3, max_length=7), ignored)
    search = {"do_sample": False, "temperature": 2}
    assert ask(parameters=search) == (caption(), "parameters.temperature")


def test_errors(
    api_server: RunningServer, client: InferenceClient, api_images: list[bytes]
) -> None:
    for image, status in ((b"no image", 415), (b"", 422), (api_images[0][:200], 422)):
        with pytest.raises(HfHubHTTPError, match="image") as caught:
            client.image_to_text(image)
        assert caught.value.response.status_code == status
    status, _, content = read_url(f"{api_server.url}/hf", {"inputs": 5})
    assert status == 422
    assert json.loads(content)["error"]["param"] == "inputs"
