"""The clients and a real server of captions, in a process of its own."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from forked_server import fork_server
from random_captioner import draw_images, save_captioner, write_images

from cutline import AsyncClient, Captioner, Client, ServedCaption, ServedText
from cutline.errors import ConfigError, CutlineError, ImageError

TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def captioner(folder: Path) -> Captioner:
    return save_captioner(folder / "model")


@pytest.fixture(scope="module")
def images(folder: Path) -> list[Path]:
    return write_images(folder / "images", 8)


@pytest.fixture(scope="module")
def address(folder: Path, captioner: Captioner) -> Iterator[str]:
    (folder / "tokens.txt").write_text(TOKEN)
    flags = ("--precision", "fp32", "--token-file", str(folder / "tokens.txt"))
    with fork_server(folder, folder / "model", *flags) as server:
        yield server.url


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address, token=TOKEN) as client:
        yield client


def check_equal(
    served: list[ServedCaption], captioner: Captioner, *arguments: Any, **settings: Any
) -> None:
    expected = captioner.caption(*arguments, **settings)
    for ours, theirs in zip(served, expected, strict=True):
        assert ours.text == theirs.text
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-4)
        assert [word.text for word in ours.words] == [word.text for word in theirs.words]
        texts = [caption.text for caption in theirs.alternatives]
        assert [caption.text for caption in ours.alternatives] == texts


def test_captions_are_those_of_the_captioner(
    client: Client, captioner: Captioner, images: list[Path]
) -> None:
    check_equal(client.caption(images), captioner, images)
    image = draw_images(1)[0]
    for settings in (
        {"num_beams": 5, "num_captions": 3, "max_length": 12},
        {"num_beams": 1, "bad_words": ("circle",)},
        {"sample": True, "seed": 3, "top_k": 0},
    ):
        check_equal(
            client.caption(image, "a red", **settings), captioner, image, "a red", **settings
        )


def test_the_other_results_are_those_of_the_captioner(
    client: Client, captioner: Captioner, images: list[Path]
) -> None:
    texts = ["a red circle", "two stars"]
    scores = client.score(images[0], texts, "a")
    for ours, theirs in zip(scores, captioner.score(images[0], texts, "a"), strict=True):
        assert ours.log_prob == pytest.approx(theirs.log_prob, abs=1e-4)
        assert ours.token_log_probs == pytest.approx(theirs.token_log_probs, abs=1e-4)
    explanation = client.explain(images[0])
    assert explanation.text == captioner.caption(images[0])[0].text
    assert all(word.map.shape == (2, 2) for word in explanation.words)
    assert all(word.map.sum() == pytest.approx(1, abs=1e-4) for word in explanation.words)
    with pytest.raises(CutlineError, match="--matcher"):
        client.match(images[0], texts)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_events_of_a_caption(
    client: Client, captioner: Captioner, images: list[Path], num_beams: int
) -> None:
    *texts, caption = client.stream(images[0], num_beams=num_beams)
    assert isinstance(caption, ServedCaption)
    check_equal([caption], captioner, images[0], num_beams=num_beams)
    assert all(isinstance(event, ServedText) for event in texts)
    assert "".join(event.text for event in texts) == caption.text
    events = list(client.stream(images[0], draft=True, num_beams=num_beams))
    drafts = [event.draft for event in events if isinstance(event, ServedText)]
    assert any(drafts) == (num_beams > 1)


def test_fifty_requests_at_once(address: str, captioner: Captioner, images: list[Path]) -> None:
    async def ask_all() -> list[list[ServedCaption]]:
        async with AsyncClient(address, token=TOKEN) as client:
            calls = [client.caption(images[number % 8]) for number in range(50)]
            return await asyncio.gather(*calls)

    served = [caption for (caption,) in asyncio.run(ask_all())]
    expected = [caption.text for caption in captioner.caption(images)]
    assert [caption.text for caption in served] == [expected[number % 8] for number in range(50)]


@pytest.mark.slow
def test_a_full_queue_is_waited_for(captioner: Captioner, folder: Path, images: list[Path]) -> None:
    flags = ("--precision", "fp32", "--max-queue", "1", "--batch-size", "1")
    with (
        fork_server(folder / "full", folder / "model", *flags) as server,
        Client(server.url, concurrency=8, max_retries=100) as client,
    ):
        check_equal(client.caption(images * 2), captioner, images * 2)


def count_running(address: str) -> float:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    lines = httpx.get(f"{address}/metrics", headers=headers).text.splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith("cutline_requests_running ")]
    return float(value)


def test_leaving_a_stream_ends_its_request(
    client: Client, address: str, images: list[Path]
) -> None:
    settings = {"max_length": 48, "min_length": 47, "num_beams": 20}
    with closing(client.stream(images[0], **settings)) as events:
        next(events)
    end = time.monotonic() + 5
    while count_running(address):
        assert time.monotonic() < end


def test_errors_name_the_image_or_the_setting(
    client: Client, address: str, folder: Path, images: list[Path]
) -> None:
    bad = folder / "bad.jpg"
    bad.write_bytes(b"no image")
    for image, name in ((bad, str(bad)), (b"", "image 1"), (b"GIF89a", "image 1")):
        with pytest.raises(ImageError, match=f"^{re.escape(name)}: ") as raised:
            client.caption([images[0], image])
        assert raised.value.index == 1
    with pytest.raises(ImageError, match=f"^{re.escape(str(bad))}: not an image"):
        list(client.stream(bad))
    with pytest.raises(ImageError, match=r"^http://127\.0\.0\.1/a\.jpg: .* --allow-urls"):
        client.caption("http://127.0.0.1/a.jpg")
    with pytest.raises(ImageError, match=r"^image 0: the request has more than 33,554,432 bytes"):
        client.caption(bytes(25 << 20))
    wrong: list[dict[str, Any]] = [
        {"num_beams": 0},
        {"num_beans": 1},
        {"max_length": 1000},
        {"top_p": "x"},
    ]
    for settings in wrong:
        with pytest.raises(ConfigError) as error:
            client.caption(images[0], **settings)
        assert error.value.setting in settings
        assert error.value.setting in str(error.value)
    with pytest.raises(ConfigError, match="leaves no room for a caption"):
        client.caption(images[0], "a " * 100)
    with Client(address) as stranger, pytest.raises(CutlineError, match="send a token"):
        stranger.caption(images[0])
