"""`ImageFetcher`: fetches the images whose addresses clients send."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from cutline.config import UrlPolicy
from cutline.errors import QueueFullError
from cutline.web import fetch_url

NUM_FETCHERS = 16  # threads: most wait for a network


class ImageFetcher:
    """Fetches images in threads of its own, of which a limited number wait."""

    def __init__(self, policy: UrlPolicy, max_waiting: int) -> None:
        """Start without threads; each starts when it is needed.

        Args:
            policy: Which addresses are fetched, and within which limits.
            max_waiting: Addresses that wait for a thread.
        """
        self._policy, self._limit = policy, NUM_FETCHERS + max_waiting
        self._pool = ThreadPoolExecutor(NUM_FETCHERS, "cutline-fetch")
        self._num_fetching = 0

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """Return what is at an address.

        Raises:
            QueueFullError: Too many others wait.
            UrlError: It cannot be fetched within the limits.
        """
        if self._num_fetching >= self._limit:
            raise QueueFullError(f"{self._limit} addresses are being fetched already")
        self._num_fetching += 1
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, fetch_url, url, self._policy, max_bytes)
        finally:
            self._num_fetching -= 1

    def close(self) -> None:
        """Start no more fetches."""
        self._pool.shutdown(wait=False, cancel_futures=True)
