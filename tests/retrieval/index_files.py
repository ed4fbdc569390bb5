"""Make indexes without a matcher, and read them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cutline.config import MatcherOptions
from cutline.retrieval.entry import IndexedImage
from cutline.retrieval.image_index import Array, ImageIndex
from cutline.retrieval.info import IndexInfo, IndexSources, is_index, read_index_info
from cutline.retrieval.update import IndexUpdate


def new_info(fingerprint: str = "f") -> IndexInfo:
    """Return what a new index records."""
    return IndexInfo(MatcherOptions("m"), fingerprint, IndexSources((" ..",), ("..",), ".."))


def random_embeddings(count: int, width: int, seed: int = 0) -> Array:
    """Return embeddings of unit length."""
    values = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    normalized: Array = values / np.linalg.norm(values, axis=1, keepdims=True)
    return normalized


def write_index(
    folder: Path, embeddings: npt.NDArray[np.float32], names: Sequence[str] = ()
) -> ImageIndex:
    """Make an index of embeddings, or replace the one that is there."""
    folder.mkdir(exist_ok=True)
    update = IndexUpdate(folder, read_index_info(folder) if is_index(folder) else new_info())
    names = names or [f"{number}.png" for number in range(len(embeddings))]
    for name, embedding in zip(names, embeddings, strict=True):
        update.add(IndexedImage(name), embedding)
    update.commit()
    update.finish(names)
    return ImageIndex(folder)


def read_index(folder: Path) -> Mapping[str, list[float]]:
    """Return the embeddings of an index by the names of images, in order."""
    index = ImageIndex(folder)
    images = [image.name for image in index.images()]
    return dict(zip(images, index.embeddings.tolist(), strict=True))
