"""Requests that would wait beyond their deadline are refused at once, others are not."""

import io
import threading
from pathlib import Path

import torch
from random_captioner import draw_images, save_captioner
from starlette.testclient import TestClient

from cutline.batching.pace import Pace
from cutline.config import ServeConfig, ServeLimits, UrlPolicy
from cutline.serving.app import make_app
from cutline.serving.options import CaptionOptions
from cutline.serving.service import CaptionService, ServedModels, cancel_requests

NUM_WAITING = 12


def test_a_request_that_would_be_late_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    draw_images(1)[0].save(buffer, "PNG")
    image, started, release = buffer.getvalue(), threading.Event(), threading.Event()
    service = CaptionService("tiny", ServeConfig(), ServeLimits(), UrlPolicy())
    service.start(ServedModels(save_captioner(tmp_path)), batch_size=2)
    client = TestClient(make_app(service), "http://localhost")

    def post(deadline: float, retry_after: int | None = None) -> int:
        files = {"images": ("a.png", image)}
        answer = client.post("/v1/captions", data={"deadline": str(deadline)}, files=files)
        if answer.status_code == 429:
            assert answer.json()["error"]["type"] == "queue_full"
            seconds = int(answer.headers["retry-after"])
            assert seconds == retry_after if retry_after else seconds >= 1
        return answer.status_code

    def block(pixels: torch.Tensor) -> bool:
        started.set()
        return release.wait(30)

    scheduler = service._scheduler
    assert scheduler is not None
    for request in service.submit([image] * NUM_WAITING, CaptionOptions()):
        request.result()
    assert scheduler.estimate_seconds() == 0  # none waits
    scheduler.submit_task(image, block)
    assert started.wait(30)
    waiting = service.submit([image] * NUM_WAITING, CaptionOptions())
    seconds = scheduler.estimate_seconds()
    assert 0 < seconds < scheduler.estimate_seconds(2)
    assert post(deadline=seconds / 2) == 429
    assert [request.done() for request in waiting] == [False] * NUM_WAITING
    assert "cutline_queue_full_total 1.0" in client.get("/metrics").text
    pace, scheduler._pace = scheduler._pace, Pace()
    for pace_seconds, retry_after in ((1.5, 21), (10.0, 60)):  # of all 14, and the limit
        scheduler._pace.seconds_alone = pace_seconds
        assert post(20, retry_after) == 429
    scheduler._pace = pace
    release.set()
    assert post(deadline=60) == 200
    cancel_requests(waiting)
    service.close()
