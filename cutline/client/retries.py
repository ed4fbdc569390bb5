"""`Retries`: when to send a request again, within a number and a time."""

import random
import time

from cutline.client.failures import Failure, make_timeout
from cutline.config import ClientConfig

FIRST_WAIT = 0.25
"""seconds before a request is sent again for the first time; each further wait is twice as long"""
MAX_WAIT = 8.0
"""seconds of the longest wait, unless the server asks for more"""


class Retries:
    """The retries of one request. Time runs from when it is made."""

    def __init__(self, config: ClientConfig) -> None:
        self._config, self._count = config, 0
        self._end = time.monotonic() + config.timeout

    def time_left(self) -> float:
        """Return the seconds left, more than 0.

        Raises:
            DeadlineExceededError: There is no time left.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise make_timeout(self._config)
        return left

    def wait_after(self, failure: Failure) -> float:
        """Return how many seconds to wait before the request is sent again.

        They are chosen at random between half of and the whole of a limit that doubles, so that
        clients that were refused together do not return together. The server may ask for more.

        Raises:
            CutlineError: The error of the failure, if the request is not to be sent again: because
                of what failed, or because no retry, or too little time, is left.
        """
        if not failure.can_retry or self._count >= self._config.max_retries:
            raise failure.error
        limit = min(MAX_WAIT, FIRST_WAIT * 2**self._count)
        wait = random.uniform(limit / 2, limit)
        if failure.retry_after is not None:
            wait = max(wait, failure.retry_after + random.uniform(0, limit / 2))
        if time.monotonic() + wait >= self._end:
            raise failure.error
        self._count += 1
        return wait
