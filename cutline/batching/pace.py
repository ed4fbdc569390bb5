"""`Pace`: how fast requests are done while others wait."""

KEPT = 0.99  # weight of a step relative to the next one: about the last hundred count


class Pace:
    """A mean of the seconds per request while others wait, from which waiting times follow.

    Attributes:
        seconds_per_request: The mean; 0 before requests have waited.
    """

    def __init__(self) -> None:
        """Start without steps."""
        self.seconds_per_request = 0.0
        self._seconds = self._num_done = 0.0
        self._is_counting = False

    def record(self, seconds: float, num_done: int, others_wait: bool) -> None:
        """Count a step.

        Args:
            seconds: How long it took.
            num_done: Requests that were done in it, without those that failed.
            others_wait: Whether others waited when it began.
        """
        if not others_wait:
            self._is_counting = False
        elif self._is_counting:
            self._seconds = KEPT * self._seconds + seconds
            self._num_done = KEPT * self._num_done + num_done
            if self._num_done:
                self.seconds_per_request = self._seconds / self._num_done
        else:  # until the first requests are done, steps fill the batch
            self._is_counting = num_done > 0
