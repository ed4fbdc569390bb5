"""`lock_image`: lets one thread at a time load an image that a caller gives several times."""

import os
from threading import Lock
from weakref import WeakValueDictionary

from PIL import Image

_locks: WeakValueDictionary[int, Lock] = WeakValueDictionary()  # by the id of the image
_guard = Lock()


def lock_image(image: Image.Image) -> Lock:
    """Return the lock of an image, which Pillow cannot load in two threads at once.

    Only the image itself shares it: one that waits for a disk does not hold up others.
    """
    with _guard:
        lock = _locks.get(id(image))
        if lock is None:
            lock = _locks[id(image)] = Lock()
        return lock


def _reset() -> None:
    global _guard
    _guard = Lock()
    _locks.clear()


if hasattr(os, "register_at_fork"):  # a lock that another thread held would never be released
    os.register_at_fork(after_in_child=_reset)
