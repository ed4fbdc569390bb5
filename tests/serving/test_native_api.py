"""Our own API: its answers are those of the Python API, and its errors name what is wrong."""

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_folder import GoldenFolder
from onnx_graphs import make_graphs
from PIL import Image
from random_captioner import draw_images, save_captioner
from random_matcher import make_matcher
from starlette.testclient import TestClient

import cutline
from cutline.batching import CaptionRequest, style_caption
from cutline.batching.alt_text import make_alt_text
from cutline.config import GenerationConfig, ServeConfig, ServeLimits, UrlPolicy
from cutline.errors import ConfigError
from cutline.explanation.pixels import encode_target, explain_pixels
from cutline.serving.app import make_app
from cutline.serving.events import CaptionStream, stream_events
from cutline.serving.options import SERVED_SETTINGS, CaptionOptions
from cutline.serving.other_apis.stream import start_parts, stream_parts
from cutline.serving.service import CaptionService, ServedModels

IMAGES = draw_images(3)
MICRO = GoldenFolder(Path(__file__).parents[1] / "golden" / "salesforce-micro")
SETTINGS: list[dict[str, Any]] = [
    {"num_beams": 5, "num_captions": 3},
    {"num_beams": 1, "max_length": 30, "min_length": 9},
    {"repetition_penalty": 1.5, "length_penalty": 2.0},
    {"no_repeat_ngram_size": 2, "bad_words": ["red", "two three"]},
    {"beam_scoring": "huggingface", "consensus": True},
    {"sample": True, "temperature": 2.0, "top_k": 9, "top_p": 0.99, "seed": 7},
    {"prompt": ""},
    {"prompt": "a red"},
]
CAPTIONS = ["a red circle", "two blue"]


def encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


FILES = [encode(image) for image in IMAGES]


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> cutline.Captioner:
    folder = tmp_path_factory.mktemp("captioner")
    save_captioner(folder)
    return cutline.load(folder, device="cpu", precision="fp32")


def make_service(captioner: cutline.Captioner, **settings: Any) -> CaptionService:
    names = ServeLimits.__dataclass_fields__
    limits = {name: value for name, value in settings.items() if name in names}
    others = {name: value for name, value in settings.items() if name not in names}
    service = CaptionService("tiny", ServeConfig(**others), ServeLimits(**limits), UrlPolicy())
    service.start(ServedModels(captioner, make_matcher()), batch_size=4)
    return service


@pytest.fixture(scope="module")
def client(captioner: cutline.Captioner) -> Iterator[TestClient]:
    service = make_service(captioner, explanations=True)
    yield TestClient(make_app(service), "http://localhost")
    service.close()


def to_json(images: list[bytes], **fields: Any) -> dict[str, Any]:
    return {"images": [{"data": base64.b64encode(each).decode()} for each in images], **fields}


def to_form(images: list[bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", ("image.png", each)) for each in images]


def assert_equal(answers: list[dict[str, Any]], captions: list[cutline.Caption]) -> None:
    for answer, caption in zip(answers, captions, strict=True):
        assert answer["text"] == caption.text
        assert answer["score"] == pytest.approx(caption.score, abs=1e-5)
        assert answer["confidence"] == pytest.approx(caption.confidence, rel=1e-3)
        assert [word["text"] for word in answer["words"]] == [word.text for word in caption.words]
        for word in answer["words"]:
            assert answer["text"][word["start"] : word["end"]] == word["text"]
        texts = [each["text"] for each in answer.get("alternatives", [])]
        assert texts == [each.text for each in caption.alternatives]


def read_events(text: str) -> list[tuple[str, dict[str, Any]]]:
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


# ----------------------------------------------------------------------------------------- captions


def test_a_request_without_settings_gets_the_captions_of_python(
    captioner: cutline.Captioner, client: TestClient
) -> None:
    expected = captioner.caption(IMAGES)
    answers = [
        client.post("/v1/captions", json=to_json(FILES)),
        client.post("/v1/captions", files=to_form(FILES)),
    ]
    for answer in answers:
        assert answer.json()["model"] == "tiny"
        assert_equal(answer.json()["captions"], expected)
    for kind in ("image/png", "image/jpeg", "application/octet-stream"):  # content decides
        answer = client.post("/v1/captions", content=FILES[0], headers={"content-type": kind})
        assert_equal(answer.json()["captions"], expected[:1])


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_are_those_of_python(
    settings: dict[str, Any], captioner: cutline.Captioner, client: TestClient
) -> None:
    expected = captioner.caption(IMAGES, **settings)
    answer = client.post("/v1/captions", json=to_json(FILES, **settings))
    assert_equal(answer.json()["captions"], expected)
    form = {name: value for name, value in settings.items() if value != ""}
    if "prompt" not in settings:  # an empty field of a form is an empty prompt, too
        answer = client.post("/v1/captions", files=to_form(FILES), data=form)
        assert_equal(answer.json()["captions"], expected)


def test_every_setting_is_tried_above() -> None:
    tried = {name for settings in SETTINGS for name in settings}
    assert tried == {*SERVED_SETTINGS, "prompt"}


def test_settings_of_an_image_are_in_its_address(
    captioner: cutline.Captioner, client: TestClient
) -> None:
    headers = {"content-type": "image/png"}
    params = {"num_beams": "1", "bad_words": ["red", "two"]}
    answer = client.post("/v1/captions", content=FILES[1], params=params, headers=headers)
    expected = captioner.caption(IMAGES[1], num_beams=1, bad_words=["red", "two"])
    assert_equal(answer.json()["captions"], expected)


@pytest.mark.parametrize("data", ["plain", "data url", "lines", "without padding", "for addresses"])
def test_base64_is_read_in_any_form(data: str, client: TestClient) -> None:
    encoded = base64.b64encode(FILES[0]).decode()
    text = {
        "plain": encoded,
        "data url": f"data:image/webp;base64,{encoded}",
        "lines": "\n".join(encoded[start : start + 76] for start in range(0, len(encoded), 76)),
        "without padding": encoded.rstrip("="),
        "for addresses": base64.urlsafe_b64encode(FILES[0]).decode(),
    }[data]
    answer = client.post("/v1/captions", json={"images": [{"data": text}]})
    assert answer.status_code == 200


@pytest.mark.parametrize("max_length", [9, 20, 40])
def test_the_reason_of_the_end_is_told(
    max_length: int, captioner: cutline.Captioner, client: TestClient
) -> None:
    settings = {"num_captions": 3, "max_length": max_length, "min_length": 1}
    expected = captioner.caption(IMAGES, **settings, token_log_probs=True)
    answers = client.post("/v1/captions", json=to_json(FILES, **settings)).json()["captions"]
    for answer, caption in zip(answers, expected, strict=True):
        for alternative, other in zip(answer["alternatives"], caption.alternatives, strict=True):
            is_cut = len(other.token_log_probs) == len(other.token_ids)
            assert alternative["finish_reason"] == ("length" if is_cut else "stop")


# ------------------------------------------------------------------------------------------- events


@pytest.mark.parametrize("settings", [{}, {"num_beams": 1}, {"sample": True, "num_captions": 2}])
def test_events_build_the_captions(settings: dict[str, Any], client: TestClient) -> None:
    whole = client.post("/v1/captions", json=to_json(FILES, **settings)).json()["captions"]
    answer = client.post("/v1/captions", json=to_json(FILES, **settings, stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = read_events(answer.text)
    assert events[-1] == ("done", {})
    captions = {data["index"]: data["caption"] for name, data in events if name == "caption"}
    assert [captions[index]["text"] for index in range(3)] == [each["text"] for each in whole]
    for index in range(3):
        texts: dict[int, str] = {}
        for name, data in events:
            if name == "text" and data["index"] == index:
                candidate = data["candidate"]
                texts[candidate] = texts.get(candidate, "") + data["text"]
        alternatives = {each["text"] for each in captions[index]["alternatives"]}
        assert set(texts.values()) == alternatives
    if not settings:
        assert any(data["draft"] for name, data in events if name == "text")


def test_an_image_that_fails_ends_its_own_events_only(client: TestClient) -> None:
    answer = client.post("/v1/captions", json=to_json([FILES[0], b"no image"], stream=True))
    ends = {data["index"]: name for name, data in read_events(answer.text) if name != "done"}
    assert answer.status_code == 200
    assert ends == {0: "caption", 1: "error"}


@pytest.mark.parametrize("stream", [False, True])
def test_captions_can_be_alternative_texts(
    stream: bool, captioner: cutline.Captioner, client: TestClient
) -> None:
    fields = {"style": "alt", "num_captions": 2}
    plain = captioner.caption(IMAGES, num_captions=2)
    expected = [style_caption(each, "alt") for each in plain]
    texts = [make_alt_text(each.text).text for each in plain[0].alternatives]
    assert [each.text for each in expected[0].alternatives] == texts
    answer = client.post("/v1/captions", json=to_json(FILES, **fields, stream=stream))
    if stream:
        events = read_events(answer.text)
        captions = {data["index"]: data["caption"] for name, data in events if name == "caption"}
        assert_equal([captions[index] for index in range(3)], expected)
    else:
        assert_equal(answer.json()["captions"], expected)


# ----------------------------------------------------------------------- scores, heat-maps, matches


def test_scores_are_those_of_python(captioner: cutline.Captioner, client: TestClient) -> None:
    for prompt in (None, "two"):
        fields = {"captions": CAPTIONS} | ({} if prompt is None else {"prompt": prompt})
        answer = client.post("/v1/scores", files={"image": FILES[0]}, data=fields).json()
        expected = captioner.score(IMAGES[0], CAPTIONS, prompt)
        assert [score["text"] for score in answer["scores"]] == CAPTIONS
        for score, other in zip(answer["scores"], expected, strict=True):
            assert score["log_prob"] == pytest.approx(other.log_prob, abs=1e-4)
            assert score["perplexity"] == pytest.approx(other.perplexity, rel=1e-4)
            assert score["token_log_probs"] == pytest.approx(list(other.token_log_probs), abs=1e-4)


@pytest.mark.parametrize("method", ["attention", "gradient"])
@pytest.mark.parametrize("caption", [None, "a red circle"])
def test_heat_maps_are_those_of_python(
    method: Any, caption: str | None, captioner: cutline.Captioner, client: TestClient
) -> None:
    fields = {"method": method} | ({} if caption is None else {"caption": caption})
    answer = client.post("/v1/explanations", files={"image": FILES[0]}, data=fields).json()
    expected = cutline.explain(captioner, IMAGES[0], caption, method=method)
    assert (answer["text"], answer["method"]) == (expected.text, method)
    for word, other in zip(answer["words"], expected.words, strict=True):
        assert (word["text"], word["start"], word["end"]) == (other.text, other.start, other.end)
        assert np.shape(word["map"]) == (answer["rows"], answer["columns"]) == other.map.shape
        np.testing.assert_allclose(word["map"], other.map, atol=1e-4)


def test_gradients_need_a_second_captioner(captioner: cutline.Captioner) -> None:
    service = make_service(captioner)
    client = TestClient(make_app(service), "http://localhost")
    fields = {"method": "gradient"}
    answer = client.post("/v1/explanations", files={"image": FILES[0]}, data=fields)
    assert answer.status_code == 501
    assert "--explanations" in answer.json()["error"]["message"]
    service.close()


@pytest.mark.parametrize("method", ["attention", "gradient"])
def test_onnx_graphs_have_no_heat_maps(
    method: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    graphs = cutline.load(make_graphs(tmp_path_factory, MICRO))
    service = make_service(graphs, explanations=True)
    client = TestClient(make_app(service), "http://localhost")
    fields = {"method": method, "caption": CAPTIONS[0]}
    answer = client.post("/v1/explanations", files={"image": FILES[0]}, data=fields)
    assert answer.status_code == 501
    assert "it runs ONNX graphs" in answer.json()["error"]["message"]
    features = client.get("/v1/info").json()["features"]
    assert not features["heat_maps"]
    assert not features["gradient"]
    pixels = torch.zeros(3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="explaining needs the weights of a captioner"):
        explain_pixels(graphs, pixels, encode_target(graphs, CAPTIONS[0], ""))
    service.close()


def test_matches_are_those_of_python(client: TestClient) -> None:
    matcher = make_matcher()
    answer = client.post("/v1/matches", files={"image": FILES[0]}, data={"texts": CAPTIONS})
    values = [match["probability"] for match in answer.json()["matches"]]
    assert values == pytest.approx(matcher.match(IMAGES[0], CAPTIONS).tolist(), abs=1e-5)


def test_matches_need_a_matcher(captioner: cutline.Captioner) -> None:
    service = CaptionService("tiny", ServeConfig(), ServeLimits(), UrlPolicy())
    service.start(ServedModels(captioner), batch_size=1)
    client = TestClient(make_app(service), "http://localhost")
    answer = client.post("/v1/matches", files={"image": FILES[0]}, data={"texts": CAPTIONS})
    assert answer.status_code == 501
    assert "--matcher" in answer.json()["error"]["message"]
    service.close()


# ------------------------------------------------------------------------------------------- errors

ERRORS: list[tuple[dict[str, Any], int, str, str | None]] = [
    ({"json": {}}, 422, "invalid_request", "images"),
    ({"json": {"images": []}}, 422, "invalid_request", "images"),
    ({"json": {"images": [{}]}}, 422, "invalid_request", "images[0]"),
    ({"json": {"images": [{"data": "!"}]}}, 400, "invalid_base64", "images[0].data"),
    ({"json": {"images": [{"data": ""}]}}, 422, "invalid_image", "images[0]"),
    ({"json": {"images": [{"url": "http://x"}]}}, 403, "forbidden", "images[0].url"),
    ({"json": to_json(FILES, num_beans=3)}, 422, "invalid_request", "num_beans"),
    ({"json": to_json(FILES, num_beams=0)}, 422, "invalid_request", "num_beams"),
    ({"json": to_json(FILES, num_beams="x")}, 422, "invalid_request", "num_beams"),
    ({"json": to_json(FILES, num_beams=65)}, 422, "invalid_request", "num_beams"),
    ({"json": to_json(FILES, max_length=49)}, 422, "invalid_request", "max_length"),
    ({"json": to_json(FILES, prompt="red " * 50)}, 422, "invalid_request", "max_length"),
    ({"json": to_json(FILES, deadline=0)}, 422, "invalid_request", "deadline"),
    ({"json": to_json([FILES[0], b"text"])}, 415, "unsupported_media_type", "images[1]"),
    ({"json": to_json([FILES[0], FILES[1][:900]])}, 422, "invalid_image", "images[1]"),
    ({"json": to_json(FILES * 6)}, 413, "too_large", "images"),
    ({"files": to_form(FILES * 6)}, 413, "too_large", "images"),
    ({"files": [("photo", ("a.png", FILES[0]))]}, 422, "invalid_request", "photo"),
    (
        {"content": b"[1]", "headers": {"content-type": "application/json"}},
        400,
        "invalid_json",
        None,
    ),
    ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid_json", None),
    ({"data": {"images": "x"}}, 415, "unsupported_media_type", "Content-Type"),
]


@pytest.mark.parametrize(("request_arguments", "status", "kind", "param"), ERRORS)
def test_errors_name_what_is_wrong(
    request_arguments: dict[str, Any], status: int, kind: str, param: str | None, client: TestClient
) -> None:
    answer = client.post("/v1/captions", **request_arguments)
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (status, kind, param)
    assert error["message"]


def test_errors_of_one_image_name_its_field(client: TestClient) -> None:
    image = to_json(FILES[:1])["images"][0]
    long = {"image": image, "captions": ["red", "red " * 50]}
    for path, sent, param in (
        ("explanations", {"files": {"image": FILES[0][:900]}}, "image"),
        ("scores", {"files": {"image": FILES[0][:900]}, "data": {"captions": "red"}}, "image"),
        ("scores", {"json": long}, "captions[1]"),
        ("explanations", {"json": {"image": image, "caption": "red " * 50}}, "caption"),
        ("explanations", {"json": {"image": image, "caption": "a", "seed": 0}}, "seed"),
    ):
        answer = client.post(f"/v1/{path}", **sent)
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)


def test_captions_to_score_are_limited_as_others(captioner: cutline.Captioner) -> None:
    service = make_service(captioner, max_caption_length=20)
    client = TestClient(make_app(service), "http://localhost")
    for count in (19, 20):  # after the start token
        sent = {"captions": "a " * count, "prompt": ""}
        answer = client.post("/v1/scores", files={"image": FILES[0]}, data=sent)
        assert answer.status_code == (200 if count == 19 else 422)
    service.close()


def test_limits_leave_room_for_requests_without_settings() -> None:
    for name in ("max_candidates", "max_caption_length"):
        with pytest.raises(cutline.ConfigError, match=name):
            ServeLimits(**{name: 2})


def test_an_image_with_too_many_pixels_is_refused(captioner: cutline.Captioner) -> None:
    service = make_service(captioner, max_pixels=1000, max_image_bytes=100_000)
    client = TestClient(make_app(service), "http://localhost")
    answer = client.post("/v1/captions", files=to_form([FILES[0]]))
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "too_large")
    answer = client.post("/v1/captions", files=to_form([bytes(100_001)]))
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "too_large")
    service.close()


def test_no_request_raises_the_deadline(captioner: cutline.Captioner) -> None:
    service = make_service(captioner, deadline=3)
    assert service.limit_deadline(None) == service.limit_deadline(60) == 3
    assert service.limit_deadline(2) == 2
    client = TestClient(make_app(service), "http://localhost")
    for deadline in (1e-9, 0.002):  # before the images are submitted, and after
        answer = client.post("/v1/captions", json=to_json((FILES * 16)[:16], deadline=deadline))
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "deadline_exceeded")
    service.close()


def test_a_request_beyond_the_queue_takes_no_place(captioner: cutline.Captioner) -> None:
    service = make_service(captioner, max_queue=0)  # and four at once
    client = TestClient(make_app(service), "http://localhost")
    answer = client.post("/v1/captions", json=to_json(FILES * 2))
    assert (answer.status_code, answer.json()["error"]["type"]) == (429, "queue_full")
    assert int(answer.headers["retry-after"]) >= 1
    while "cutline_requests_waiting 0.0" not in client.get("/metrics").text:
        time.sleep(0.01)
    assert client.post("/v1/captions", json=to_json(FILES)).status_code == 200
    assert "cutline_queue_full_total 1.0" in client.get("/metrics").text
    service.close()


# ------------------------------------------------------------------------------ what else is served


@pytest.mark.parametrize("way", ["whole", "events", "first part"])
def test_whoever_leaves_cancels_all_images(way: str, captioner: cutline.Captioner) -> None:
    service, release = make_service(captioner), threading.Event()
    images, options = FILES * 2, CaptionOptions()

    async def answer() -> None:
        if way == "whole":
            await service.caption(images, options)
        requests = service.submit(images, options)
        if way == "events":
            response = CaptionStream(stream_events(service, requests), requests, "text/plain")
            await response({"type": "http"}, never, ignore)
        await start_parts(stream_parts(service, requests, 1), requests)

    async def never() -> Any:
        await asyncio.Event().wait()

    async def leave() -> None:
        await asyncio.wait_for(answer(), 0.05)

    scheduler = service._scheduler
    assert scheduler is not None
    blocked = scheduler.submit_task(FILES[0], lambda pixels: release.wait(10))
    with pytest.raises(TimeoutError):
        asyncio.run(leave())
    _, *requests = scheduler._requests
    assert len(requests) == len(images)
    assert all(map(CaptionRequest.find_reason_to_stop, requests))
    release.set()
    assert blocked.result()
    service.close()


async def ignore(message: Any) -> None:
    """Do nothing with a part of a response."""


def test_examples_of_the_description_are_answered(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    tried = []
    for path, routes in paths.items():
        content = routes.get("post", {}).get("requestBody", {}).get("content", {})
        if example := content.get("application/json", {}).get("example"):
            assert client.post(path, json=example).status_code == 200
            tried.append(path)
    assert {"/v1/captions", "/v1/scores", "/v1/explanations", "/v1/matches"} <= set(tried)


def test_the_description_documents_every_setting(client: TestClient) -> None:
    body = client.get("/openapi.json").json()["paths"]["/v1/captions"]["post"]["requestBody"]
    properties = body["content"]["application/json"]["schema"]["properties"]
    assert {*SERVED_SETTINGS, "prompt", "images", "stream", "deadline"} <= set(properties)
    assert all(properties[name]["description"] for name in SERVED_SETTINGS)


def test_information_about_the_server(captioner: cutline.Captioner, client: TestClient) -> None:
    info = client.get("/v1/info").json()
    assert info["defaults"].pop("style") == "plain"
    defaults = GenerationConfig(**{**info["defaults"], "bad_words": ()})
    assert defaults == GenerationConfig()
    assert set(asdict(defaults)) - set(info["defaults"]) == {"token_log_probs"}
    features = {"heat_maps": True, "gradient": True, "matches": True, "urls": False, "auth": False}
    assert info["features"] == features
    assert info["limits"]["max_length"] == captioner.config.text.max_positions
    assert replace(defaults, max_length=info["limits"]["max_length"])


def test_metrics_count_images_tokens_and_errors(captioner: cutline.Captioner) -> None:
    service = make_service(captioner)
    client = TestClient(make_app(service), "http://localhost")
    captions = captioner.caption(IMAGES)
    client.post("/v1/captions", json=to_json(FILES))
    client.post("/v1/captions", json=to_json(FILES[:1], stream=True))
    client.post("/v1/captions", json=to_json([FILES[1][:900]], stream=True))
    client.post("/v1/captions", json={})
    text = client.get("/metrics").text
    num_tokens = sum(len(each.token_ids) for each in [*captions, captions[0]])
    assert "cutline_images_total 4.0" in text
    assert f"cutline_tokens_total {num_tokens}.0" in text
    assert 'cutline_errors_total{type="invalid_request"} 1.0' in text
    assert 'cutline_errors_total{type="invalid_image"} 1.0' in text
    assert 'cutline_request_duration_seconds_count{path="/v1/captions"} 4.0' in text
    assert "cutline_time_to_first_token_seconds_count 1.0" in text
    assert "cutline_requests_running 0.0" in text
    assert "cutline_requests_waiting 0.0" in text
    service.close()


def test_a_model_that_fails_is_told_to_who_watches(captioner: cutline.Captioner) -> None:
    service = make_service(captioner)
    client = TestClient(make_app(service), "http://localhost")
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    secret = "/srv/secret.pth"

    def fail(*_: object) -> None:
        raise RuntimeError(secret)

    service._scheduler._runner._run_step = fail
    answers = [client.post("/v1/captions", json=to_json(FILES[:1])) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [500, 503]
    assert not any(secret in answer.text for answer in answers)
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 503
    service.close()
