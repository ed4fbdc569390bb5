"""The server of a review: who may come in, views, conflicts, images, the captioner, its end."""

import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from random_captioner import make_captioner, save_captioner
from review_data import TEXTS, open_review, write_json_lines, write_review_images
from review_server import ReviewServer

from cutline.cli.main import run_command
from cutline.config import ServeConfig, UrlPolicy
from cutline.serving.review.app import make_review_app
from cutline.serving.review.run import LIMITS
from cutline.serving.review.session import ReviewSession
from cutline.serving.service import CaptionService, ServedModels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_review_images(tmp_path)
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    """Return a client of a review, in this process."""
    review = open_review(write_json_lines(folder))
    session = ReviewSession(review, "captions.jsonl")
    app = make_review_app(session, CaptionService("", ServeConfig(), LIMITS, UrlPolicy()))
    with TestClient(app, f"http://127.0.0.1:8000/{session.key}/") as client:
        yield client
    review.close()


def test_only_who_knows_the_address_comes_in(client: TestClient) -> None:
    origin = "http://127.0.0.1:8000"
    key = urlsplit(str(client.base_url)).path.strip("/")
    for path in ("", "state", f"{key[:-1]}/state", f"{key}x/", "static/style.css", "%00/"):
        response = client.get(f"{origin}/{path}")
        assert (response.status_code, response.headers["content-type"]) == (
            403,
            "text/plain; charset=utf-8",
        )
    assert client.get(f"{origin}/{key}", follow_redirects=False).headers["location"] == f"/{key}/"
    page = client.get("")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    for name in ("static/style.css", "static/caption.js", "review/review.js"):
        assert client.get(name).status_code == 200
    for name in ("static/%2e%2e/app.py", "review/%2e%2e/%2e%2e/app.py", "review//etc/passwd"):
        assert client.get(name).status_code == 404
    assert client.get("state", headers={"Host": "attacker.example"}).status_code == 403
    evil = {"Origin": "http://attacker.example"}
    assert client.post("undo", headers=evil).status_code == 403
    assert client.get("openapi.json").status_code == 404


def test_views_stay_as_they_are(client: TestClient) -> None:
    view = client.post("views", json={"text": "DOG", "order": "confidence"}).json()
    assert (view["count"], view["index"]) == (4, None)
    rows = client.get(f"views/{view['view']}?start=0&count=2").json()["rows"]
    assert [row["text"] for row in rows] == [TEXTS[0], TEXTS[1]]
    client.post(f"rows/{rows[0]['row']}/reject", json={"version": 1, "confirm": True})
    again = client.get(f"views/{view['view']}").json()["rows"]
    assert [row["state"] for row in again] == ["rejected", *["not reviewed"] * 3]
    index = client.get(f"views/{view['view']}/index?row={again[2]['row']}").json()
    assert index == {"index": 2}
    assert client.post("views", json={"states": ["rejected"]}).json()["count"] == 1
    assert client.post("views?resume=true", json={}).json()["index"] == 1
    assert client.post("views", json={"below": 0.5}).json()["count"] == 1
    whole = {"text": "do", "whole_words": True}
    assert client.post("views", json=whole).json()["count"] == 0
    assert client.get("views/99").status_code == 404
    for body in ({"below": 2}, {"states": ["lost"]}, {"order": "size"}, {"other": 1}):
        answer = client.post("views", json=body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (422, "invalid_request")


def test_a_stale_tab_loses_nothing(client: TestClient) -> None:
    steps = {"version": 1, "confirm": True}
    assert client.post("rows/0/edit", json={**steps, "text": "mine"}).status_code == 200
    late = client.post("rows/0/edit", json={**steps, "text": "theirs"})
    assert (late.status_code, late.json()["error"]["type"]) == (409, "stale")
    assert (late.json()["rows"][0]["text"], late.json()["rows"][0]["version"]) == ("mine", 2)
    for action in ("accept", "reject"):
        assert client.post(f"rows/0/{action}", json=steps).status_code == 409
    assert client.get("rows/0").json()["text"] == "mine"
    preview = client.post("replacements/preview", json={"find": "dog", "replace": "cat"}).json()
    assert client.post("rows/1/accept", json={"version": 1}).status_code == 200
    replacement = {"find": "dog", "replace": "cat", "stamp": preview["stamp"], "confirm": True}
    assert client.post("replacements", json=replacement).status_code == 409
    assert client.post("rows/99/accept", json=steps).status_code == 404


def test_captions_of_others_are_asked_for(client: TestClient) -> None:
    answer = client.post("rows/0/edit", json={"version": 1, "text": "x"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "confirm")
    assert answer.json()["rows"][0]["text"] == TEXTS[0]
    body = {"find": "dog", "replace": "cat", "whole_words": True}
    plan = client.post("replacements/preview", json=body).json()
    assert (plan["count"], plan["own"]) == (4, 4)
    assert plan["examples"][0]["spans"] == [[6, 9]]
    answer = client.post("replacements", json={**body, "stamp": plan["stamp"]})
    assert (answer.json()["error"]["type"], answer.json()["count"]) == ("confirm", plan["own"])
    done = client.post("replacements", json={**body, "stamp": plan["stamp"], "confirm": True})
    assert done.json()["count"] == plan["count"]
    assert done.json()["counts"]["not reviewed"] == 6  # nobody has looked at them one by one
    undone = client.post("undo").json()
    assert (undone["action"], undone["count"]) == ("replace", plan["count"])
    assert client.post("undo").json()["action"] is None
    assert client.post("rows/0/edit", json={"version": 3, "text": " \n"}).status_code == 422


def test_only_images_are_shown(client: TestClient, folder: Path) -> None:
    image = client.get("rows/1/image?size=small")
    assert image.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(image.content)).size == (8, 6)
    (folder / "1.png").write_text("a secret")
    assert client.get("rows/1/image").status_code == 415
    assert "secret" not in client.get("rows/1/image").text
    (folder / "1.png").unlink()
    (folder / "1.png").symlink_to("/dev/zero")
    assert client.get("rows/1/image").status_code == 422
    for path in ("rows/2/image", "rows/-1/image", "rows/0.png/image", "rows/0/image?size=huge"):
        assert client.get(path).status_code in (404, 422)


def test_there_is_no_captioner_without_a_model(client: TestClient) -> None:
    assert client.post("rows/0/proposal").status_code == 501
    assert not client.get("state").json()["can_caption"]


def test_a_captioner_proposes_and_explains(folder: Path) -> None:
    review = open_review(write_json_lines(folder))
    service = CaptionService("random", ServeConfig(), LIMITS, UrlPolicy())
    captioner = make_captioner()
    service.start(ServedModels(captioner), 1)
    session = ReviewSession(review, "captions.jsonl", can_caption=True)
    with TestClient(
        make_review_app(session, service), f"http://localhost/{session.key}/"
    ) as client:
        proposal = client.post("rows/0/proposal").json()
        (caption,) = captioner.caption([str(folder / "0.png")], num_captions=3)
        assert proposal["text"] == caption.text
        assert [each["text"] for each in proposal["alternatives"]] == [
            each.text for each in caption.alternatives
        ]
        body = {"text": "a red circle"}
        explanation = client.post("rows/0/explanation", json=body).json()
        assert [word["text"] for word in explanation["words"]] == ["a", "red", "circle"]
        (folder / "0.png").unlink()
        assert client.post("rows/0/proposal").status_code == 422
    service.close()
    review.close()


@pytest.mark.slow
def test_the_command(folder: Path) -> None:
    path = write_json_lines(folder)
    with ReviewServer(path) as server:
        assert server.ask("GET", "state")["place"] == {}
        server.ask("POST", "rows/4/edit", {"version": 1, "text": "a gray cat", "confirm": True})
        place = {"row": 3, "filter": {"text": "zwei"}}
        server.ask("PUT", "place", place)
        assert b"a gray cat" not in path.read_bytes()
        host = urlsplit(server.address)
        assert host.hostname == "127.0.0.1"
        assert httpx.get(f"http://127.0.0.1:{host.port}/").status_code == 403
        assert server.stop() == 0
        messages = server.log
    assert b"a gray cat" in path.read_bytes()
    assert "left as it is" in messages
    assert "line 6: not JSON" in messages
    assert "captions.jsonl: 0 of 6 reviewed" in messages
    assert messages.endswith(f"cutline: {path}: 5 not reviewed, 0 accepted, 1 edited, 0 rejected\n")


@pytest.mark.slow
def test_a_review_goes_on_where_it_stopped_and_ends_on_the_page(folder: Path) -> None:
    path = write_json_lines(folder)
    review = open_review(path)
    review.edit(4, 1, "a gray cat", confirm=True)
    review.set_place({"row": 3, "filter": {"text": "zwei"}})
    review.close()
    with ReviewServer(path) as server:
        assert "captions.jsonl: 1 of 6 reviewed" in server.log
        shown = server.ask("GET", "state")["place"]
        assert (shown["row"], shown["filter"]["text"]) == (3, "zwei")
        assert server.ask("POST", "undo")["rows"][0]["text"] == "a cat"
        assert server.ask("POST", "finish")["written"] == str(path)
        assert b'"a cat"' in path.read_bytes()
        assert server.wait() == 0


@pytest.mark.slow
def test_the_captioner_is_loaded_while_the_page_is_shown(folder: Path) -> None:
    save_captioner(folder / "model")
    (folder / "captions.jsonl").write_text('{"file_name": "0.png"}\n')
    with ReviewServer(folder / "captions.jsonl", "--model", str(folder / "model")) as server:
        for _ in range(200):
            answer = server.client.post("rows/0/proposal")
            if answer.status_code != 503:
                break
        text = answer.json()["text"]
        server.ask("POST", "rows/0/edit", {"version": 1, "text": text})
        assert server.stop(signal.SIGTERM) == 0
    assert json.loads((folder / "captions.jsonl").read_text())["caption"] == " ".join(text.split())


def test_wrong_use_is_explained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["review", str(folder / "missing.jsonl"), "--no-browser"]) == 1
    assert "no such file or folder; give a .jsonl" in capsys.readouterr().err
    assert run_command(["review", str(folder), "--port", "70000"]) == 2
    assert run_command(["review", str(folder), "--split", "train", "--no-browser"]) == 1
    assert "has no split `train`" in capsys.readouterr().err
