"""`Metrics`: what the server counts, in the text format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""upper bounds of the buckets of durations"""

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]


class Metrics:
    """Counters, gauges and histograms of one server.

    Attributes:
        images: Images captioned, scored, explained or matched.
        tokens: Tokens of captions that were generated.
        errors: Requests that failed, by type of the error.
        queue_full: Requests refused because too many waited, or all together were too large.
        duration: Seconds of a request, by path.
        first_token: Seconds until the first part of a streamed caption.
    """

    def __init__(self, count_running: Callable[[], int], count_waiting: Callable[[], int]) -> None:
        """Make all metrics.

        Args:
            count_running: Returns the number of images that the model works on.
            count_waiting: Returns the number of images that wait.
        """
        self._registry = registry = CollectorRegistry()
        name = "cutline_requests_running"
        running = Gauge(name, "Images that the model works on.", registry=registry)
        running.set_function(count_running)
        name = "cutline_requests_waiting"
        waiting = Gauge(name, "Images that wait for the model.", registry=registry)
        waiting.set_function(count_waiting)
        self.images = Counter("cutline_images", "Images processed.", registry=registry)
        self.tokens = Counter("cutline_tokens", "Tokens generated.", registry=registry)
        self.errors = Counter(
            "cutline_errors", "Requests that failed, by type.", ["type"], registry=registry
        )
        self.queue_full = Counter(
            "cutline_queue_full", "Requests refused because too many came.", registry=registry
        )
        self.duration = Histogram(
            "cutline_request_duration_seconds",
            "Seconds from a request to the end of its response.",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self.first_token = Histogram(
            "cutline_time_to_first_token_seconds",
            "Seconds from a streamed request to the first part of its caption.",
            buckets=SECONDS,
            registry=registry,
        )

    def format(self) -> bytes:
        """Return all values in the text format of Prometheus."""
        return generate_latest(self._registry)
