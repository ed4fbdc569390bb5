"""What the clients send, and what they make of answers."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from answers import Ask, make_caption_json, read_image, send_captions, send_error, send_json
from web_server import Handler, WebServer, send, send_raw

import cutline
from cutline.client import ServedCaption, ServedMatch, ServedScore
from cutline.errors import ConfigError, CutlineError, ImageError

FREE = """
import sys
import cutline
cutline.AsyncClient(), cutline.Client(), cutline.ServedCaption
print({"torch", "fastapi"} & set(sys.modules))
"""


def test_clients_need_no_torch() -> None:
    result = subprocess.run([sys.executable, "-c", FREE], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("set()\n", "")


def test_a_request_without_settings_has_none(server: WebServer, ask: Ask) -> None:
    server.answers["/v1/captions"] = send_captions("a dog")
    (caption,) = ask(server, "caption", b"an image")
    assert caption.text == "a dog"
    assert json.loads(server.bodies[0]) == {"images": [{"data": "YW4gaW1hZ2U="}]}
    assert "Authorization" not in server.requests[0][1]


def test_settings_prompt_and_token_are_sent(server: WebServer, ask: Ask) -> None:
    server.answers["/v1/captions"] = send_captions("a dog")
    settings = {"num_beams": np.int64(5), "top_p": np.float32(0.5), "bad_words": ("cat",)}
    ask(server, "caption", "https://a.org/b.jpg", "a", style="alt", token="abc", **settings)
    assert json.loads(server.bodies[0]) == {
        "images": [{"url": "https://a.org/b.jpg"}],
        "prompt": "a",
        "num_beams": 5,
        "top_p": 0.5,
        "bad_words": ["cat"],
        "style": "alt",
    }
    assert server.requests[0][1]["Authorization"] == "Bearer abc"


def test_settings_that_json_cannot_hold(server: WebServer, ask: Ask) -> None:
    for value in (math.nan, object(), {1, 2}):
        with pytest.raises(ConfigError, match="a setting"):
            ask(server, "caption", b"image", temperature=value)
    assert server.requests == []


def test_each_image_is_a_request_and_order_is_kept(
    server: WebServer, ask: Ask, tmp_path: Path
) -> None:
    def answer(handler: Handler) -> None:
        """Answer the first image last."""
        image = read_image(handler)
        if image == b"0":
            others_done.wait(5)
        send_captions(f"caption {image.decode()}")(handler)
        if image == b"3":
            others_done.set()

    others_done = threading.Event()
    server.answers["/v1/captions"] = answer
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_text(str(number))
    captions = ask(server, "caption", paths, ["a", "b", "c", "d"], concurrency=2)
    assert [caption.text for caption in captions] == [f"caption {number}" for number in range(4)]
    assert [caption.index for caption in captions] == list(range(4))
    prompts = {json.loads(body)["prompt"] for body in server.bodies}
    assert prompts == {"a", "b", "c", "d"}
    with pytest.raises(ConfigError, match="there are 1 prompts for 4 images"):
        ask(server, "caption", paths, ["a"])
    assert ask(server, "caption", []) == []


def test_no_more_requests_at_once_than_asked_for(server: WebServer, ask: Ask) -> None:
    def answer(handler: Handler) -> None:
        with lock:
            running.append(handler)
            most.append(len(running))
        together.wait(0.02)
        with lock:
            running.remove(handler)
        send_captions("a dog")(handler)

    lock, together = threading.Lock(), threading.Event()
    running: list[Handler] = []
    most: list[int] = []
    server.answers["/v1/captions"] = answer
    assert len(ask(server, "caption", [b"image"] * 12, concurrency=3)) == 12
    assert max(most) == 3


def test_a_bad_image_is_named(server: WebServer, ask: Ask, tmp_path: Path) -> None:
    def answer(handler: Handler) -> None:
        message = "images[0]: not an image that can be read"
        error = send_error(422, "invalid_image", message, "images[0]")
        (error if read_image(handler) == b"bad" else send_captions("a dog"))(handler)

    server.answers["/v1/captions"] = answer
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    images = [b"good", str(tmp_path / "bad.jpg")]
    with pytest.raises(ImageError) as raised:
        ask(server, "caption", images, concurrency=1)
    assert str(raised.value) == f"{tmp_path / 'bad.jpg'}: not an image that can be read"
    assert raised.value.index == 1
    with pytest.raises(ImageError, match=r"^image 1: not an image that can be read$"):
        ask(server, "caption", [b"good", b"bad"], concurrency=1)


def test_after_an_error_no_further_image_is_sent(server: WebServer, ask: Ask) -> None:
    server.answers["/v1/captions"] = send_error(422, "invalid_image", "bad", "images[0]")
    with pytest.raises(ImageError):
        ask(server, "caption", [b"image"] * 100, concurrency=2)
    assert len(server.requests) < 10


def test_ctrl_c_does_not_wait_for_the_server(server: WebServer) -> None:
    server.answers["/v1/captions"] = send_raw(b"", b"", pause=5)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    # A handler that another test has left would keep the signal for the tests that follow.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with cutline.Client(server.url("")) as client:
        start = time.monotonic()
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            client.caption([b"image"] * 3)
    signal.signal(signal.SIGINT, before)
    assert time.monotonic() - start < 3
    timer.join()


def test_all_of_a_caption_is_read(server: WebServer, ask: Ask) -> None:
    best = make_caption_json("a dog", finish_reason="length")
    answer = best | {"alternatives": [best, make_caption_json("a cat")], "later": 1}
    server.answers["/v1/captions"] = send_json({"model": "m", "captions": [answer]})
    (caption,) = ask(server, "caption", b"image")
    word = cutline.Word("a", 0, 1, 0.5)
    assert caption == ServedCaption("a dog", -1.5, 0.25, (word,), "length")
    assert [each.text for each in caption.alternatives] == ["a dog", "a cat"]


def test_the_other_requests(server: WebServer, ask: Ask) -> None:
    token_log_probs = [-0.5, -1.5]
    score = {"text": "a", "log_prob": -2.0, "perplexity": 2.5, "token_log_probs": token_log_probs}
    server.answers["/v1/scores"] = send_json(
        {"model": "m", "scores": [score, score | {"perplexity": None}]}
    )
    scores = ask(server, "score", b"image", ["a", "a"], "the")
    assert scores[0] == ServedScore("a", -2.0, 2.5, (-0.5, -1.5))
    assert scores[1].perplexity == math.inf
    sent = {"image": {"data": "aW1hZ2U="}, "captions": ["a", "a"], "prompt": "the"}
    assert json.loads(server.bodies[-1]) == sent
    server.answers["/v1/matches"] = send_json({"matches": [{"text": "a", "probability": 0.5}]})
    assert ask(server, "match", b"image", "a") == [ServedMatch("a", 0.5)]
    assert json.loads(server.bodies[-1])["texts"] == ["a"]
    word = {"text": "a", "start": 0, "end": 1, "map": [[0.25, 0.25], [0.5, 0]]}
    server.answers["/v1/explanations"] = send_json(
        {"text": "a", "method": "attention", "rows": 2, "columns": 2, "words": [word]}
    )
    explanation = ask(server, "explain", b"image", num_beams=1)
    assert explanation.words[0].map.tolist() == word["map"]
    assert json.loads(server.bodies[-1])["method"] == "attention"
    assert json.loads(server.bodies[-1])["num_beams"] == 1
    server.answers["/v1/models"] = send_json({"object": "list", "data": [{"id": "m"}]})
    assert ask(server, "models") == ["m"]


def test_foreign_answers(server: WebServer) -> None:
    foreign = (None, [], {}, {"captions": []}, {"captions": [{}]}, {"captions": [{"text": "a"}]})
    server.answers["/v1/captions"] = [*map(send_json, foreign), send(b"<html>"), send(b"[" * 9999)]
    with cutline.Client(server.url("")) as client:
        while server.answers["/v1/captions"]:
            with pytest.raises(CutlineError, match="answered, but not as `cutline serve` does"):
                client.caption(b"image")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"base_url": "127.0.0.1:8000"}, "base_url must be an address"),
        ({"base_url": "http://a:b@c"}, "without user"),
        ({"base_url": "http://a:99999"}, "base_url must be an address"),
        ({"base_url": "http://a/?b"}, "without user, query"),
        ({"base_url": "http://a..b"}, "base_url must be an address"),
        ({"base_url": "http://300.1.1.1"}, "base_url must be an address"),
        ({"token": "a\n"}, "token must be ASCII"),
        ({"token": ""}, "token must be ASCII"),
        ({"timeout": 0}, "timeout must be"),
        ({"max_retries": -1}, "max_retries must be"),
        ({"concurrency": 0}, "concurrency must be"),
    ],
)
def test_wrong_settings(settings: dict[str, object], problem: str) -> None:
    for kind in (cutline.Client, cutline.AsyncClient):
        with pytest.raises(ConfigError, match=problem) as raised:
            kind(**settings)  # type: ignore[arg-type]
        assert "a\\n" not in str(raised.value)
        assert "http://a:b@c" not in str(raised.value) or "token" not in settings


def test_a_server_below_a_path_of_a_proxy(server: WebServer) -> None:
    server.answers["/captioner/v1/captions"] = send_captions("a dog")
    with cutline.Client(server.url("/captioner/")) as client:
        assert client.caption(b"image")[0].text == "a dog"
