"""A review that is killed loses at most the step in flight; the captions file is always whole."""

import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from review_data import FORMS, open_review, write_review_images
from review_server import ReviewServer

from cutline.data import open_data
from cutline.serving.review.row_filter import RowFilter

pytestmark = pytest.mark.slow


class Worker(threading.Thread):
    """Edits rows one after the other until the server is gone, and remembers what was answered."""

    def __init__(self, server: ReviewServer, seed: int, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self.server, self.rng, self.rows = server, random.Random(seed), rows
        self.texts = [row["text"] for row in rows]
        self.in_flight: tuple[int, str] | None = None
        self.count = 0

    def run(self) -> None:
        try:
            for step in range(100_000):
                index = self.rng.randrange(len(self.rows))
                text = f"caption {step} of {self.rows[index]['name']}"
                self.in_flight = (index, text)
                number, version = self.rows[index]["row"], self.rows[index]["version"]
                body = {"version": version, "text": text, "confirm": True}
                answer = self.server.ask("POST", f"rows/{number}/edit", body)
                self.rows[index] = answer["rows"][0]
                self.texts[index] = text
                self.count += 1
        except httpx.TransportError:
            pass


@pytest.mark.parametrize("form", ["jsonl", "csv", "sidecars"])
def test_a_killed_review_loses_at_most_the_step_in_flight(form: str, tmp_path: Path) -> None:
    write_review_images(tmp_path)
    path = FORMS[form](tmp_path)
    rng = random.Random(form)
    count = 0
    for seed in range(3):
        with ReviewServer(path) as server:
            view = server.ask("POST", "views", {})["view"]
            worker = Worker(server, seed, server.ask("GET", f"views/{view}")["rows"])
            worker.start()
            time.sleep(rng.uniform(0.05, 0.5))
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL
            worker.join()
        count += worker.count
        expected = list(worker.texts)
        late = list(expected)
        if worker.in_flight:
            late[worker.in_flight[0]] = worker.in_flight[1]
        review = open_review(path)
        rows = review.describe_rows(review.select(RowFilter()))
        assert [row["text"] for row in rows] in (expected, late)
        if form != "jsonl":  # whose line that is no row is an error in training
            texts = [text for sample in open_data(path) for text in sample.captions]
            assert sorted(texts) == sorted(row["text"] for row in rows)
        assert [each.name for each in tmp_path.iterdir() if each.suffix == ".tmp"] == []
        review.close()
    assert count > 20


def test_a_review_that_is_killed_while_it_ends_leaves_a_complete_file(tmp_path: Path) -> None:
    write_review_images(tmp_path)
    path = tmp_path / "captions.csv"
    lines = [f"{number % 6}.png,caption {number}\n" for number in range(20_000)]
    path.write_text("image,caption\n" + "".join(lines))
    rng = random.Random(1)
    for turn in range(4):
        with ReviewServer(path) as server:
            row = server.ask("GET", f"rows/{turn + 1}")
            body = {"version": row["version"], "text": f"edited {turn}", "confirm": True}
            server.ask("POST", f"rows/{turn + 1}/edit", body)
            server.send_signal(signal.SIGINT)
            time.sleep(rng.uniform(0, 0.4))
            server.stop(signal.SIGKILL)
        rows = path.read_text().splitlines()
        assert len(rows) == 20_001
        assert rows[-1] == "1.png,caption 19999"
    review = open_review(path)
    review.close()
    rows = path.read_text().splitlines()
    assert rows[1:5] == [f"{number}.png,edited {number}" for number in range(4)]
    assert rows[5:] == [line.strip() for line in lines[4:]]
    assert list(tmp_path.glob(".*.tmp")) == []
