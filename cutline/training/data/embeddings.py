"""Cached image embeddings: a frozen vision encoder runs once for each image, over many runs."""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch

from cutline.config import Recipe
from cutline.data import Sample
from cutline.device import pick_device, pick_precision
from cutline.distributed import gather_results, rank, run_on_main, world_size
from cutline.errors import CutlineError, ImageError
from cutline.files import ImageRef
from cutline.image import normalize, prefetch_images
from cutline.model import VisionTextModel
from cutline.progress import Progress, no_progress
from cutline.training.data.embedding_store import Embedding, EmbeddingStore

ImagesByKey = Mapping[bytes, str | bytes | ImageRef]
"""path or bytes of each image, by key"""


def cache_embeddings(
    recipe: Recipe,
    model: VisionTextModel,
    samples: Mapping[int, Sample],
    progress: Progress = no_progress,
) -> dict[int, Embedding | str]:
    """Look up the embeddings of images in `data.cache_embeddings`, and compute the missing ones.

    Every process must call this; each of them computes an equal share.

    Args:
        recipe: Folder, device and precision.
        model: The model, whose vision encoder is moved to the device in evaluation mode.
        samples: Samples by any index.
        progress: Shows how many images are done.

    Returns:
        For each index the embedding, or a message about the image that cannot be read.

    Raises:
        ConfigError: The folder holds embeddings of another vision encoder.
        CutlineError: The embeddings do not fit on the disk.
    """
    store = open_store(recipe, model)
    keys = {index: compute_image_key(sample.image) for index, sample in samples.items()}
    images = {key: samples[index].image for index, key in keys.items()}
    unreadable = fill_store(
        store, images, lambda share: compute_embeddings(recipe, model, store, share, progress)
    )
    return {
        index: unreadable[key] if key in unreadable else store.embeddings[key]
        for index, key in keys.items()
    }


def open_store(recipe: Recipe, model: VisionTextModel) -> EmbeddingStore:
    """Open the store of `data.cache_embeddings` for the vision encoder of `model`."""
    bf16 = pick_precision(recipe.precision, pick_device(recipe.device)) == "bf16"
    dtype = torch.bfloat16 if bf16 else torch.float32
    return EmbeddingStore(
        Path(recipe.data.cache_embeddings),
        fingerprint_encoder(model, dtype),
        model.embeds_shape,
        dtype,
    )


def fingerprint_encoder(model: VisionTextModel, dtype: torch.dtype) -> str:
    """Return a hash of all that an embedding depends on besides its image.

    These are the weights and sizes of the vision encoder, the normalization of pixels, the
    precision, and how many tokens merge.
    """
    settings = [
        asdict(replace(model.config.vision, drop_path=0.0)),
        asdict(model.config.image),
        str(dtype),
        *([model.merge_tokens] if model.merge_tokens else []),
    ]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, weight in model.vision.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def compute_image_key(image: str | bytes | ImageRef) -> bytes:
    """Return a key that changes with the image.

    It is a hash of the bytes, or of path, size and modification time of a file.
    """
    # An image that cannot be read has a key, too: opening it reports the error.
    if isinstance(image, ImageRef):
        try:
            image = image.read()
        except ImageError:
            image = str(image).encode("utf-8", "surrogatepass")
    if isinstance(image, bytes):
        return hashlib.sha256(image).digest()
    # pathlib would be several times slower.
    name = os.path.abspath(image)  # noqa: PTH100
    try:
        status = os.stat(image)  # noqa: PTH116
        name += f"\0{status.st_size} {status.st_mtime_ns}"
    except (OSError, ValueError):
        pass
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()


def fill_store(
    store: EmbeddingStore, images: ImagesByKey, compute: Callable[[ImagesByKey], dict[bytes, str]]
) -> dict[bytes, str]:
    """Let every process compute its share of the embeddings that `store` lacks.

    Args:
        store: The store; it lists all embeddings of `images` afterwards.
        images: The images; every process gives the same.
        compute: Writes the embeddings of some images, and returns a message for each image that
            cannot be read.

    Returns:
        A message for each image that cannot be read, from all processes.

    Raises:
        ConfigError: The store holds embeddings of another vision encoder.
        CutlineError: The disk is too small, or some processes cannot see the folder.
    """

    def find_missing() -> list[bytes]:
        store.refresh()
        return [key for key in images if key not in store.embeddings]

    def check_complete() -> None:
        store.refresh()
        if images.keys() - store.embeddings.keys() - unreadable.keys():
            raise CutlineError(
                f"{store.folder}: some embeddings are missing: set `data.cache_embeddings` to a "
                "folder that every process can see, and start again"
            )

    # The main process alone lists what is missing, so that all divide the same list.
    missing = run_on_main(find_missing)
    if missing:
        run_on_main(lambda: store.check_free_space(len(missing)))
    # A key depends on size and time of the image file. Where processes see different files, this
    # one may not know a key of the main process; the check of completeness then reports it.
    share = {key: images[key] for key in missing[rank() :: world_size()] if key in images}
    unreadable: dict[bytes, str] = {}
    for messages in gather_results(lambda: compute(share)):
        unreadable |= messages
    gather_results(check_complete)
    return unreadable


@torch.no_grad()
def compute_embeddings(
    recipe: Recipe,
    model: VisionTextModel,
    store: EmbeddingStore,
    images: ImagesByKey,
    progress: Progress,
) -> dict[bytes, str]:
    """Write the embeddings of `images` to `store`.

    Returns:
        A message for each image that cannot be read, by key.
    """
    device, batch_size = pick_device(recipe.device), recipe.eval.batch_size
    model.vision.to(device).eval()
    pairs = ((image, key) for key, image in images.items())
    opened = prefetch_images(pairs, model.config.vision.image_size, 2 * batch_size)
    opened_with_progress = progress(opened, len(images), "computing embeddings")
    unreadable: dict[bytes, str] = {}
    while batch := list(itertools.islice(opened_with_progress, batch_size)):
        unreadable |= {key: str(error) for error, key in batch if isinstance(error, ImageError)}
        readable = [(pixels, key) for pixels, key in batch if not isinstance(pixels, ImageError)]
        if not readable:
            continue
        pixels = torch.stack([pixels for pixels, _ in readable]).to(device)
        pixel_values = normalize(pixels, model.config.image)
        with torch.autocast(device.type, torch.bfloat16, enabled=store.dtype == torch.bfloat16):
            image_embeds = model.vision(pixel_values)
        store.append([key for _, key in readable], image_embeds)
    return unreadable
