"""What a frozen vision side makes of images, kept on disk, so that it reads each of them once.

A folder of parts. Whoever finds images missing, each process by itself, writes a part of its own: a file of records of one size, and
one of their images' keys, which grows only after the records are on the disk. A record without a key does not count: a process that is
killed leaves all that it finished and nothing that is half written. No part is ever changed by another run, so that runs at the same time
may share a folder. The name of a part begins with a fingerprint_model of what made it.
"""

import hashlib
import itertools
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from cutline.config import Recipe
from cutline.data import Sample
from cutline.device import pick_device, pick_precision
from cutline.distributed import gather_results, is_main_process, rank, world_size
from cutline.errors import ConfigError, CutlineError, DataError, ImageError
from cutline.files import ImageRef
from cutline.image import normalize, prefetch_images
from cutline.model import CaptionModel

Pictures = Mapping[bytes, str | bytes | ImageRef]  # a path or the bytes of each, by key

KEY_SIZE = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Embedding:
    """Where an image's embedding lies."""

    path: Path
    offset: int
    shape: tuple[int, int]
    dtype: torch.dtype

    def read(self) -> Tensor:
        """image_embeds (N, D). Raises DataError if they are no longer there."""
        size = self.shape[0] * self.shape[1] * self.dtype.itemsize
        try:
            record = np.fromfile(self.path, np.uint8, size, offset=self.offset)
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read ({error.strerror}); start again to make its embeddings anew"
            ) from None
        if len(record) < size:
            raise DataError(
                f"{self.path}: has become shorter; start again to make its embeddings anew"
            )
        return torch.from_numpy(record).view(self.dtype).view(self.shape)


class EmbeddingStore:
    """A folder of embeddings of shape (N, D), all made by the same vision side."""

    def __init__(
        self, folder: Path, maker: str, shape: tuple[int, int], dtype: torch.dtype
    ) -> None:
        """maker: the fingerprint_model of what makes them."""
        self.folder, self.maker, self.shape, self.dtype = folder, maker, shape, dtype
        self.record_size = shape[0] * shape[1] * dtype.itemsize
        self.part = folder / f"{maker}-{uuid.uuid4().hex}"
        self.found: dict[bytes, Embedding] = {}

    def look(self) -> None:
        """Find what is there. Raises ConfigError where another vision side has left embeddings."""
        for path in sorted(self.folder.glob("*.keys")):
            if not path.name.startswith(self.maker):
                raise ConfigError(
                    f"{self.folder} holds embeddings of another vision side (its weights, image size or precision differ): "
                    "delete the folder, or name another in `data.cache_embeddings`"
                )
            keys, records = path.read_bytes(), path.with_suffix(".records")
            size = records.stat().st_size if records.exists() else 0
            count = min(len(keys) // KEY_SIZE, size // self.record_size)
            for number in range(count):
                key = keys[number * KEY_SIZE : (number + 1) * KEY_SIZE]
                self.found[key] = Embedding(
                    records, number * self.record_size, self.shape, self.dtype
                )

    def check_prompt_length(self, count: int) -> None:
        """Raise CutlineError if the disk has no room for `count` more embeddings."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CutlineError(
                f"{self.folder}: cannot be made ({error.strerror}); name another in `data.cache_embeddings`"
            ) from None
        needed, free = count * (self.record_size + KEY_SIZE), shutil.disk_usage(self.folder).free
        if needed > free:
            raise CutlineError(
                f"{self.folder}: {count} embeddings take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: "
                "make room, or name another folder in `data.cache_embeddings`"
            )

    def append(self, keys: Sequence[bytes], image_embeds: Tensor) -> None:
        """Keep image_embeds (B, N, D) of B images. Raises CutlineError if they cannot be written."""
        records = image_embeds.to("cpu", self.dtype).contiguous().view(torch.uint8).numpy()
        try:
            for kind, content in ((".records", records.tobytes()), (".keys", b"".join(keys))):
                with self.part.with_suffix(kind).open("ab") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise CutlineError(
                f"{self.folder}: cannot be written ({error.strerror}); what is there is good, make room and start again"
            ) from None


def fingerprint_model(model: CaptionModel, dtype: torch.dtype) -> str:
    """Stands for all that an embedding depends on besides its image: weights, sizes, how pixels become numbers, precision."""
    sizes = [
        asdict(replace(model.config.vision, drop_path=0.0)),
        asdict(model.config.image),
        str(dtype),
    ]
    digest = hashlib.sha256(json.dumps(sizes).encode())
    for name, weight in model.vision.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def picture_key(image: str | bytes | ImageRef) -> bytes:
    """Stands for an image as it is now: a hash of its bytes, or of its path, size and time of change."""
    if isinstance(image, ImageRef):
        try:
            image = image.read()
        except ImageError:  # said again when it is opened
            image = str(image).encode("utf-8", "surrogatepass")
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    name = os.path.abspath(image)  # a Path is slower
    try:
        status = os.stat(image)  # likewise
        name += f"\0{status.st_size} {status.st_mtime_ns}"
    except (OSError, ValueError):
        pass  # that it cannot be read is said when it is opened
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


def embed(
    recipe: Recipe, model: CaptionModel, samples: Mapping[int, Sample], show_progress: bool
) -> dict[int, Embedding | str]:
    """The embedding of each sample's image, from `data.cache_embeddings` or made now, or one sentence on why it cannot be read.

    Every process calls, and makes its share of those that are missing.

    Raises:
        ConfigError: the folder holds those of another vision side.
        CutlineError: they do not fit on the disk.
    """
    store = open_store(recipe, model)
    keys = {index: picture_key(sample.image) for index, sample in samples.items()}
    pictures = {key: samples[index].image for index, key in keys.items()}
    unreadable = complete(
        store, pictures, lambda share: make(recipe, model, store, share, show_progress)
    )
    return {
        index: unreadable[key] if key in unreadable else store.found[key]
        for index, key in keys.items()
    }


def open_store(recipe: Recipe, model: CaptionModel) -> EmbeddingStore:
    """The store of `data.cache_embeddings`, for what the vision side of `model` makes in the run's precision."""
    bf16 = pick_precision(recipe.precision, pick_device(recipe.device)) == "bf16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    vision = model.config.vision
    return EmbeddingStore(
        Path(recipe.data.cache_embeddings),
        fingerprint_model(model, dtype),
        (vision.num_tokens, vision.embed_dim),
        dtype,
    )


def complete(
    store: EmbeddingStore, pictures: Pictures, make: Callable[[Pictures], dict[bytes, str]]
) -> dict[bytes, str]:
    """Let every process make its share of what `store` does not hold of `images`; returns a sentence for each that cannot be read."""

    def find_missing() -> list[bytes]:
        store.look()
        return [key for key in pictures if key not in store.found]

    def check() -> None:
        store.look()
        if pictures.keys() - store.found.keys() - unreadable.keys():
            raise CutlineError(
                f"{store.folder}: not all embeddings are there: choose a folder that all processes see, and start again"
            )

    missing = gather_results(find_missing)[
        0
    ]  # as the first process sees them: all must divide the same
    gather_results(
        lambda: store.check_prompt_length(len(missing)) if is_main_process() and missing else None
    )
    share = {key: pictures[key] for key in missing[rank() :: world_size()] if key in pictures}
    unreadable = {
        key: sentence
        for bad in gather_results(lambda: make(share))
        for key, sentence in bad.items()
    }
    gather_results(check)
    return unreadable


@torch.no_grad()
def make(
    recipe: Recipe,
    model: CaptionModel,
    store: EmbeddingStore,
    pictures: Pictures,
    show_progress: bool,
) -> dict[bytes, str]:
    """Put the embeddings of `images` into `store`; returns a sentence for each image that cannot be read."""
    device, size = pick_device(recipe.device), recipe.eval.batch_size
    model.vision.to(device).eval()
    reading = prefetch_images(
        ((image, key) for key, image in pictures.items()), model.config.vision.image_size, 2 * size
    )
    watched = track(
        reading,
        "embedding",
        len(pictures),
        console=Console(stderr=True),
        disable=not (show_progress and pictures),
        transient=True,
    )
    bad: dict[bytes, str] = {}
    while batch := list(itertools.islice(watched, size)):
        bad |= {key: str(pixels) for pixels, key in batch if isinstance(pixels, ImageError)}
        good = [(pixels, key) for pixels, key in batch if not isinstance(pixels, ImageError)]
        if good:
            pixel_values = normalize(
                torch.stack([pixels for pixels, _ in good]).to(device), model.config.image
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=store.dtype == torch.bfloat16):
                image_embeds = model.vision(pixel_values)
            store.append([key for _, key in good], image_embeds)
    return bad
