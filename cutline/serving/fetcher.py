"""`ImageFetcher`: fetches the images whose addresses clients send."""

import asyncio
import threading
from contextlib import suppress

from cutline.config import UrlPolicy
from cutline.errors import DeadlineExceededError, QueueFullError
from cutline.web import fetch_url

NUM_FETCHERS = 16  # threads: most wait for a network


class ImageFetcher:
    """Fetches images in threads of its own, of which a limited number wait.

    No thread keeps the process from ending, though a server may keep it waiting.
    """

    def __init__(self, policy: UrlPolicy, max_waiting: int) -> None:
        """Start without threads; each starts when it is needed.

        Args:
            policy: Which addresses are fetched, and within which limits.
            max_waiting: Addresses that wait for a thread.
        """
        self._policy, self._limit = policy, NUM_FETCHERS + max_waiting
        self._free_threads = asyncio.Semaphore(NUM_FETCHERS)
        self._num_fetching = 0

    async def fetch(self, url: str, max_bytes: int) -> bytes:
        """Return what is at an address.

        Raises:
            QueueFullError: Too many others wait.
            DeadlineExceededError: The others take too long.
            UrlError: It cannot be fetched within the limits.
        """
        if self._num_fetching >= self._limit:
            raise QueueFullError(f"{self._limit} addresses are being fetched already")
        self._num_fetching += 1
        try:
            async with asyncio.timeout(self._policy.timeout):
                await self._free_threads.acquire()
            return await self._start(url, max_bytes)
        except TimeoutError:
            message = "the images of other requests take too long to fetch; try again later"
            raise DeadlineExceededError(message) from None
        finally:
            self._num_fetching -= 1

    def _start(self, url: str, max_bytes: int) -> asyncio.Future[bytes]:
        """Fetch an address in a thread, which frees its place when it ends, awaited or not."""
        loop = asyncio.get_running_loop()
        fetched: asyncio.Future[bytes] = loop.create_future()

        def finish(result: bytes | Exception) -> None:
            self._free_threads.release()
            if fetched.done():  # the client has gone
                return
            if isinstance(result, bytes):
                fetched.set_result(result)
            else:
                fetched.set_exception(result)

        def run() -> None:
            result: bytes | Exception
            try:
                result = fetch_url(url, self._policy, max_bytes)
            except Exception as error:
                result = error
            with suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(finish, result)

        try:
            threading.Thread(target=run, name="cutline-fetch", daemon=True).start()
        except RuntimeError:  # too many threads
            self._free_threads.release()
            raise
        return fetched
