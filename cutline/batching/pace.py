"""`Pace`: how fast requests are done while others wait."""

KEPT = 0.99  # weight of a step relative to the next one: about the last hundred count


class Pace:
    """A mean of the seconds per request while others wait, from which waiting times follow.

    Attributes:
        seconds_alone: Seconds of a request that is alone, which takes longer than one in a batch; 0
            if they are not known.
    """

    def __init__(self, num_uncertain: int = 0) -> None:
        """Start without steps.

        Args:
            num_uncertain: Requests whose mean may be too low: what the first ones cost, such as the
                encoding of their images, was before they were counted.
        """
        self.seconds_alone = 0.0
        self._num_uncertain = num_uncertain
        self._seconds = self._num_done = 0.0
        self._is_counting = False

    @property
    def seconds_per_request(self) -> float:
        """Return the mean; before it is certain, no less than the seconds of a request alone."""
        mean = self._seconds / self._num_done if self._num_done else 0.0
        return mean if self._num_done > self._num_uncertain else max(mean, self.seconds_alone)

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
        else:  # until the first requests are done, steps fill the batch
            self._is_counting = num_done > 0
