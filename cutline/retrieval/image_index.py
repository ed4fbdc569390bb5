"""`ImageIndex`: embeddings of images on disk, and those that are nearest to another embedding."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cutline.errors import DataError
from cutline.retrieval.entry import IndexedImage
from cutline.retrieval.info import REBUILD_HINT, read_index_info

Array: TypeAlias = npt.NDArray[np.float32]
CHUNK_ROWS = 16_384
"""embeddings that are compared at once: 16 MB of width 256"""


class ImageIndex:
    """The embeddings of images, memory-mapped, and the names of the images.

    Attributes:
        folder: The folder of the index.
        info: What it holds.
        embeddings: (N, P), of unit length.
    """

    def __init__(self, folder: Path) -> None:
        """Open the index in a folder.

        Raises:
            DataError: It is not complete, or damaged.
        """
        self.folder, self.info = folder, read_index_info(folder)
        if not self.info.number:
            raise DataError(
                f"{folder}: not finished; the same `cutline index` command as before goes on"
            )
        self.embeddings = self._map_embeddings()
        self._lines = self._read_lines()
        self._ends = np.flatnonzero(np.frombuffer(self._lines, np.uint8) == ord("\n"))
        if len(self._ends) != len(self):
            raise self._damaged(images_path(folder, self.info.number))

    def __len__(self) -> int:
        """Return the number of images."""
        return self.info.count

    def _map_embeddings(self) -> Array:
        info, path = self.info, embeddings_path(self.folder, self.info.number)
        try:
            if not info.count:  # nothing can be mapped
                return np.empty((0, info.width), np.float32)
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise self._damaged(path) from None
        if array.shape != (info.count, info.width) or array.dtype != np.float32:
            raise self._damaged(path)
        return array  # type: ignore[no-any-return]

    def _read_lines(self) -> bytes:
        path = images_path(self.folder, self.info.number)
        try:
            lines = path.read_bytes()
        except OSError:
            raise self._damaged(path) from None
        if len(lines) != self.info.num_bytes:
            raise self._damaged(path)
        return lines

    def _damaged(self, path: Path) -> DataError:
        return DataError(f"{path}: missing, truncated or damaged; {REBUILD_HINT}")

    def image(self, row: int) -> IndexedImage:
        """Return the image of a row.

        Raises:
            DataError: The file of images is damaged.
        """
        start = int(self._ends[row - 1]) + 1 if row else 0
        try:
            return IndexedImage.from_json(self._lines[start : self._ends[row]])
        except ValueError:
            raise self._damaged(images_path(self.folder, self.info.number)) from None

    def images(self) -> Iterator[IndexedImage]:
        """Yield the images in order."""
        return map(self.image, range(len(self)))

    def nearest(self, question: Array, k: int) -> list[tuple[int, float]]:
        """Return the rows of the k nearest images and their cosines, the highest first.

        The search is exact. Of images with the same cosine, the first in the index comes first.

        Args:
            question: (P,), of unit length.
            k: Number of images; all are returned if there are fewer.
        """
        cosines = np.empty(len(self), np.float32)
        for start in range(0, len(self), CHUNK_ROWS):
            part = self.embeddings[start : start + CHUNK_ROWS]
            # Faster than matmul, whose threads spin, and then hold up whatever runs beside it.
            np.einsum("np,p->n", part, question, out=cosines[start : start + CHUNK_ROWS])
        rows = find_largest(cosines, k)
        return [(int(row), float(cosines[row])) for row in rows]


def open_image_index(folder: Path) -> ImageIndex:
    """Open the index in a folder, which another process may be replacing.

    Raises:
        DataError: It is not complete, or damaged.
    """
    while True:
        number = read_index_info(folder).number
        try:
            return ImageIndex(folder)
        except DataError:
            if read_index_info(folder).number == number:
                raise


def find_largest(values: Array, k: int) -> npt.NDArray[np.intp]:
    """Return the positions of the k largest values, largest first; of equal ones the first ones."""
    values = np.where(np.isnan(values), -np.inf, values)
    rows = np.arange(len(values))
    if k < len(values):
        rows = np.flatnonzero(values >= np.partition(values, -k)[-k])  # more, if some are equal
    return rows[np.argsort(-values[rows], kind="stable")][:k]


def embeddings_path(folder: Path, number: int) -> Path:
    """Return the file of embeddings in an index."""
    return folder / f"embeddings-{number:08}.npy"


def images_path(folder: Path, number: int) -> Path:
    """Return the file of images in an index: a line of JSON for each row of the embeddings."""
    return folder / f"images-{number:08}.jsonl"
