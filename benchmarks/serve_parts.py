"""What `serve.py` measures of the server: each part is a function."""

import base64
import itertools
import json
import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from load import Answer, Load, make_request, make_upload, run_closed, run_open
from results import progress
from serve_setup import Setup, make_uploads
from servers import RunningServer, run_plain

import cutline

LOADS = (0.25, 0.5, 0.75, 0.9)
"""offered loads, as shares of the capacity"""
OVERLOAD = 3
"""offered load in overload, as a multiple of the capacity"""
MEMORY_STEPS = 10
DEADLINE = 3
"""seconds that a request has in overload, as a multiple of those that a full batch takes"""
PROBES, MAX_PROBES = 3, 100


# Throughput


@dataclass
class Subject:
    """What captions images in turn with others, and its results."""

    server: RunningServer | None
    requests: Sequence[bytes]
    """requests, or image files if there is no server"""
    concurrency: int = 1
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    client_seconds: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def run(self, captioner: cutline.Captioner, batch_size: int) -> None:
        """Caption all images once."""
        if self.server:
            cpu_start = self.server.read_cpu_seconds()
            load = run_closed(self.server.address, self.requests, self.concurrency)
            load.require_captions()
            self.cpu_seconds.append(self.server.read_cpu_seconds() - cpu_start)
            self.texts = [answer.text for answer in load.answers]
            self.seconds.append(load.seconds)
            self.client_seconds.append(load.cpu_seconds)
            return
        start, cpu_start = time.perf_counter(), time.process_time()
        captions = captioner.stream(self.requests, batch_size=batch_size)
        self.texts = [getattr(caption, "text", "") for caption in captions]
        self.seconds.append(time.perf_counter() - start)
        self.cpu_seconds.append(time.process_time() - cpu_start)

    def forget(self) -> None:
        """Forget the times, which were for warming up."""
        for values in (self.seconds, self.cpu_seconds, self.client_seconds):
            values.clear()

    def describe(self, expected: Sequence[str]) -> dict[str, Any]:
        """Return the results, given the captions of the images."""
        same = [text == wanted for text, wanted in zip(self.texts, expected, strict=False)]
        return {
            "images": len(self.requests),
            "seconds": self.seconds,
            "images_per_s": len(self.requests) / statistics.median(self.seconds),
            "cpu_s_per_image": statistics.median(self.cpu_seconds) / len(self.requests),
            "same_captions": sum(same) / len(self.requests),
            "client_share": sum(self.client_seconds) / sum(self.seconds),
        }


def measure_throughput(setup: Setup) -> dict[str, Any]:
    """Return images per second of the server, of the plain server, and of `stream`."""
    options, images = setup.options, setup.images
    clients, single = options.batch_size, images[: options.num_single]
    model = setup.find_model(options.size) / "huggingface"
    server = setup.find_server()
    with run_plain(model, setup.folder / "plain.log") as plain:
        plain_requests = [make_upload(f"{plain.address}/caption", image) for image in single]
        subjects = {
            "stream": Subject(None, images),
            "serve": Subject(server, make_uploads(server, images), clients),
            "plain": Subject(plain, plain_requests, clients),
            "serve, 1 client": Subject(server, make_uploads(server, single)),
            "plain, 1 client": Subject(plain, plain_requests),
        }
        names = list(subjects)
        for number in range(options.rounds + 1):
            for name in names[:: 1 if number % 2 else -1]:
                subject = subjects[name]
                subject.run(setup.captioner, clients)
                progress.print(f"{name}: {subject.seconds[-1]:.2f} s")
            if not number:  # the first round warms up
                for subject in subjects.values():
                    subject.forget()
    expected = subjects["stream"].texts
    results = {name: subject.describe(expected) for name, subject in subjects.items()}
    rates = {name: result["images_per_s"] for name, result in results.items()}
    setup.__dict__["capacity"] = rates["serve"]
    ratios = {
        "serve / stream": rates["serve"] / rates["stream"],
        "serve / plain": rates["serve"] / rates["plain"],
        "serve / plain, 1 client": rates["serve, 1 client"] / rates["plain, 1 client"],
    }
    return {"subjects": results, "ratios": ratios}


# Latency


def measure_latency(setup: Setup) -> dict[str, Any]:
    """Return the latency of captions that are read word by word, at several loads."""
    options, capacity = setup.options, setup.capacity
    loads, server = [], setup.find_server()
    requests = make_uploads(server, setup.images, stream="true")
    for share in LOADS:
        load = offer(server, requests, share * capacity, options)
        loads.append({"share": share, "rate": share * capacity, **describe_latency(load)})
        progress.print(json.dumps(loads[-1]))
    return {"capacity": capacity, "loads": loads}


def offer(server: RunningServer, requests: Sequence[bytes], rate: float, options: Any) -> Load:
    """Send requests at random times (a Poisson process), and return the answers."""
    arrivals, times = random.Random(options.seed), [0.0]
    while times[-1] < options.seconds:
        times.append(times[-1] + arrivals.expovariate(rate))
    return run_open(server.address, itertools.cycle(requests), times)


def describe_latency(load: Load) -> dict[str, Any]:
    """Return percentiles of the seconds until captions came."""
    done = [answer for answer in load.answers if answer.text]
    first = [answer.first_text for answer in done if answer.first_text is not None]
    return {
        "requests": len(load.answers),
        "failed": len(load.answers) - len(done),
        "first_text": find_percentiles(first),
        "caption": find_percentiles([answer.seconds for answer in done]),
        "client_share": load.cpu_seconds / load.seconds,
    }


def find_percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """Return the median and the 99th percentile: the least value that as many do not exceed.

    Both are None if there are no values.
    """
    ordered = sorted(values)
    return {
        f"p{share}": ordered[math.ceil(share / 100 * len(ordered)) - 1] if ordered else None
        for share in (50, 99)
    }


# Memory


def measure_memory(setup: Setup) -> dict[str, Any]:
    """Return the memory of a server with a tiny model after many requests of several kinds."""
    options, mib, statuses = setup.options, [], Counter[str]()
    server = setup.find_server("tiny")
    requests = list(itertools.islice(make_mix(server, setup.images), options.num_requests))
    step = math.ceil(len(requests) / MEMORY_STEPS)
    for start in range(0, len(requests), step):
        load = run_closed(server.address, requests[start : start + step], options.batch_size)
        mib.append(server.read_memory())
        statuses.update(str(answer.status) for answer in load.answers)
        progress.print(f"{start + len(load.answers)} requests: {mib[-1]:.1f} MiB")
    return {"step": step, "mib": mib, "growth_mib": mib[-1] - mib[0], "statuses": dict(statuses)}


def make_mix(server: RunningServer, images: Sequence[bytes]) -> Iterator[bytes]:
    """Yield requests of several kinds; the last one of each cycle fails."""
    captions, scores = f"{server.address}/v1/captions", f"{server.address}/v1/scores"
    for image in itertools.cycle(images):
        content = json.dumps({"images": [{"data": base64.b64encode(image).decode()}]}).encode()
        yield make_upload(captions, image)
        yield make_request(captions, "application/json", content)
        yield make_upload(captions, image, stream="true", num_beams=1)
        yield make_upload(captions, image, num_beams=5, num_captions=3)
        yield make_upload(captions, image, sample="true")
        yield make_upload(scores, image, captions="a picture of word1")
        yield make_upload(captions, image[: len(image) // 2])


# Overload


def measure_overload(setup: Setup) -> dict[str, Any]:
    """Return what becomes of more requests than the server can take, and of those that follow."""
    options, capacity = setup.options, setup.capacity
    deadline = DEADLINE * options.batch_size / capacity
    server = setup.find_server()
    requests = make_uploads(server, setup.images, deadline=deadline)
    alone = statistics.median(probe(server, requests[0]).seconds for _ in range(PROBES))
    load = offer(server, requests, OVERLOAD * capacity, options)
    recovery = measure_recovery(server, requests[0], 2 * alone)
    accepted = [answer.seconds for answer in load.answers if answer.status == 200]
    refused = [answer for answer in load.answers if answer.status == 429]
    statuses = [str(answer.status) for answer in load.answers]
    return {
        "capacity": capacity,
        "rate": OVERLOAD * capacity,
        "deadline": deadline,
        "statuses": dict(Counter(statuses)),
        "images_per_s": len(accepted) / load.seconds,
        "accepted": {**find_percentiles(accepted), "max": max(accepted, default=0.0)},
        "refused": find_percentiles([answer.seconds for answer in refused]),
        "without_retry_after": sum(not answer.retry_after for answer in refused),
        "alone": alone,
        "drain": load.seconds - load.due_seconds,
        "recovery": recovery,
        "client_share": load.cpu_seconds / load.seconds,
    }


def probe(server: RunningServer, request: bytes) -> Answer:
    """Send one request alone."""
    return run_closed(server.address, [request], 1).answers[0]


def measure_recovery(server: RunningServer, request: bytes, limit: float) -> float | None:
    """Return the seconds until a request alone is answered within a limit; None for never."""
    start = time.perf_counter()
    for _ in range(MAX_PROBES):
        begun = time.perf_counter()
        answer = probe(server, request)
        if answer.status == 200 and answer.seconds <= limit:
            return begun - start
    return None
