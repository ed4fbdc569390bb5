"""`IndexUpdate`: an index that is made or updated; what is new is kept in parts until the end."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from cutline.bulk.parts import CommitTimer
from cutline.bulk.state import LOCK_NAME
from cutline.errors import DataError
from cutline.files import atomic_write, remove_partial
from cutline.retrieval.entry import IndexedImage
from cutline.retrieval.image_index import Array, ImageIndex, embeddings_path, images_path
from cutline.retrieval.info import INFO_NAME, IndexInfo

_PART_NAME = re.compile(r"part-(\d{8})\.npz")
_ARRAY_NAME = re.compile(r"(?:embeddings-(\d{8})\.npy|images-(\d{8})\.jsonl)")
_OTHER_NAME = re.compile(rf"{LOCK_NAME}|\..*\.tmp")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the embedding of an image is."""

    image: IndexedImage
    part: int
    """number of the part; 0 for the index that is updated"""
    row: int


class IndexUpdate:
    """What an index has, and what is added to it.

    One thread may ask what is known while another adds embeddings.
    """

    def __init__(self, folder: Path, info: IndexInfo) -> None:
        """Read what the folder has: the index, and the parts that a stopped update has left.

        Raises:
            DataError: The index is damaged.
        """
        self._folder, self._info = folder, info
        self._current = ImageIndex(folder) if info.number else None
        self._places: dict[str, _Place] = {}
        if self._current is not None:
            self._add_places(self._current.images(), 0)
        self._parts = [number for number in find_parts(folder) if self._read_part(number)]
        self._pending: list[tuple[IndexedImage, Array]] = []
        self._timer = CommitTimer()

    def _add_places(self, images: Iterator[IndexedImage], part: int) -> None:
        for row, image in enumerate(images):
            self._places[image.name] = _Place(image, part, row)

    def _read_part(self, number: int) -> bool:
        """Read the images of a part; remove one that is damaged."""
        path = part_path(self._folder, number)
        try:
            # np.load closes no file of its own that it cannot read.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                lines = arrays["images"].tobytes().splitlines()
                images = [IndexedImage.from_json(line) for line in lines]
                if arrays["embeddings"].shape[:1] != (len(images),):
                    raise ValueError(path)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            path.unlink(missing_ok=True)
            return False
        self._add_places(iter(images), number)
        return True

    @property
    def names(self) -> list[str]:
        """Return the names of all images that have an embedding."""
        return list(self._places)

    def knows(self, image: IndexedImage) -> bool:
        """Return whether there is an embedding of an image; forget that of a former version."""
        place = self._places.get(image.name)
        if place is not None and place.image == image:
            return True
        self._places.pop(image.name, None)
        return False

    def add(self, image: IndexedImage, embedding: Array) -> None:
        """Add the embedding (P,) of an image to the next part."""
        self._pending.append((image, embedding))

    def is_due(self) -> bool:
        """Return whether to commit."""
        return self._timer.is_due(len(self._pending))

    def commit(self) -> None:
        """Write what was added to a part, which survives whatever happens now."""
        if self._pending:
            number = self._parts[-1] + 1 if self._parts else 1
            images = [image for image, _ in self._pending]
            lines = np.frombuffer(b"".join(image.to_json() for image in images), np.uint8)
            embeddings = np.stack([embedding for _, embedding in self._pending])
            path = part_path(self._folder, number)
            remove_partial([path])
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.savez(file, images=lines, embeddings=embeddings)
            self._parts.append(number)
            self._add_places(iter(images), number)
        self._pending = []
        self._timer.restart()

    def finish(self, names: Iterable[str]) -> IndexInfo:
        """Replace the index, at one moment, by one with all that is known.

        Args:
            names: The images in their order; those without an embedding are left out.

        Returns:
            What the index now holds.
        """
        self._places = {name: self._places[name] for name in names if name in self._places}
        places = list(self._places.values())
        if not self._is_current(places):
            self._info = self._write(places)
        self._info.write(self._folder)
        self._current = None  # Windows removes no file that is mapped
        remove_parts(self._folder)
        remove_arrays(self._folder, self._info.number)
        return self._info

    def _is_current(self, places: Sequence[_Place]) -> bool:
        """Return whether the index that is updated has these rows, and no others."""
        if self._current is None or len(places) != len(self._current):
            return False
        return all(place.part == 0 and place.row == row for row, place in enumerate(places))

    def _write(self, places: Sequence[_Place]) -> IndexInfo:
        """Write the files of the next number."""
        number = self._info.number + 1
        width = self._load_part(places[0].part).shape[1] if places else self._info.width
        array, images = embeddings_path(self._folder, number), images_path(self._folder, number)
        remove_partial([array, images, self._folder / INFO_NAME])
        with atomic_write(images) as temporary, temporary.open("wb") as file:
            file.writelines(place.image.to_json() for place in places)
        with atomic_write(array) as temporary:
            self._copy(places, temporary, width)
        return replace(
            self._info,
            number=number,
            count=len(places),
            width=width,
            num_bytes=images.stat().st_size,
        )

    def _copy(self, places: Sequence[_Place], path: Path, width: int) -> None:
        """Write the embeddings of places to a file."""
        if not places:  # nothing can be mapped
            with path.open("wb") as file:
                np.save(file, np.empty((0, width), np.float32))
            return
        shape = (len(places), width)
        target = np.lib.format.open_memmap(path, "w+", np.dtype(np.float32), shape)
        parts = np.fromiter((place.part for place in places), np.uint32, len(places))
        rows = np.fromiter((place.row for place in places), np.uint32, len(places))
        for part in np.unique(parts):
            is_here = parts == part
            target[is_here] = self._load_part(int(part))[rows[is_here]]
        target.flush()

    def _load_part(self, number: int) -> Array:
        """Return the embeddings of a part, or of the index that is updated."""
        if number == 0:
            assert self._current is not None
            return self._current.embeddings
        with np.load(part_path(self._folder, number), allow_pickle=False) as arrays:
            embeddings: npt.NDArray[np.float32] = arrays["embeddings"]
            return embeddings


def part_path(folder: Path, number: int) -> Path:
    """Return the file of a part: new images with their embeddings."""
    return folder / f"part-{number:08}.npz"


def find_parts(folder: Path) -> list[int]:
    """Return the numbers of the parts in a folder."""
    names = filter(None, (_PART_NAME.fullmatch(path.name) for path in folder.iterdir()))
    return sorted(int(name[1]) for name in names)


def holds_images(folder: Path) -> bool:
    """Return whether a folder has an embedding of any image."""
    names = [path.name for path in folder.iterdir()]
    return any(_PART_NAME.fullmatch(name) or _ARRAY_NAME.fullmatch(name) for name in names)


def remove_parts(folder: Path) -> None:
    """Remove all parts."""
    for number in find_parts(folder):
        part_path(folder, number).unlink()


def remove_arrays(folder: Path, kept: int) -> None:
    """Remove the files of embeddings and images, but for those of the number `kept`."""
    for path in folder.iterdir():
        name = _ARRAY_NAME.fullmatch(path.name)
        if name and int(name[1] or name[2]) != kept:
            with suppress(PermissionError):  # on Windows, while a search has it open
                path.unlink()


def check_only_index(folder: Path) -> None:
    """Check that a folder without index.json holds nothing that does not belong to an index.

    Raises:
        DataError: It holds other files.
    """
    patterns = (_OTHER_NAME, _PART_NAME, _ARRAY_NAME)
    for path in folder.iterdir():
        if not any(pattern.fullmatch(path.name) for pattern in patterns):
            raise DataError(f"{folder}: not an index; name a new folder with -o")
