"""A folder of image embeddings that survives killed runs and serves several runs at once.

The folder consists of parts. Every process of every run that computes embeddings writes a part of
its own, which is two files: NAME.records has the embeddings, all of one size, and NAME.keys the
keys of their images, all of `KEY_SIZE` bytes. The keys are written after the records are on the
disk, and a record without a key does not count: whatever moment a process is killed at, complete
embeddings remain and incomplete ones are ignored. Since nobody changes the parts of others, runs
may share a folder at the same time. NAME begins with a fingerprint of the vision encoder.
"""

import hashlib
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cutline.errors import ConfigError, CutlineError, DataError

KEY_SIZE = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Embedding:
    """The position of an image's embedding on disk."""

    path: Path
    offset: int
    """in bytes"""
    shape: tuple[int, int]
    dtype: torch.dtype

    def read(self) -> Tensor:
        """Read the embedding.

        Returns:
            image_embeds, (N, D).

        Raises:
            DataError: The file was deleted or truncated.
        """
        num_bytes = self.shape[0] * self.shape[1] * self.dtype.itemsize
        try:
            record = np.fromfile(self.path, np.uint8, num_bytes, offset=self.offset)
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be read ({error.strerror}); "
                "resume the run to compute its embeddings again"
            ) from None
        if len(record) < num_bytes:
            raise DataError(
                f"{self.path}: was truncated; resume the run to compute its embeddings again"
            )
        return torch.from_numpy(record).view(self.dtype).view(self.shape)


class EmbeddingStore:
    """A folder of embeddings of one shape, computed by one vision encoder."""

    def __init__(
        self, folder: Path, fingerprint: str, shape: tuple[int, int], dtype: torch.dtype
    ) -> None:
        """Open a folder, which need not exist.

        Args:
            folder: The folder.
            fingerprint: Fingerprint of the vision encoder.
            shape: Shape (N, D) of an embedding.
            dtype: Precision of the embeddings.
        """
        self.folder, self.fingerprint, self.shape, self.dtype = folder, fingerprint, shape, dtype
        self.record_size = shape[0] * shape[1] * dtype.itemsize
        self.part = folder / f"{fingerprint}-{uuid.uuid4().hex}"
        self.embeddings: dict[bytes, Embedding] = {}
        """by the keys of their images, as of the last `refresh`"""

    def refresh(self) -> None:
        """List the embeddings that are in the folder.

        Raises:
            ConfigError: The folder has embeddings of another vision encoder.
        """
        for path in sorted(self.folder.glob("*.keys")):
            if not path.name.startswith(self.fingerprint):
                raise ConfigError(
                    f"{self.folder} holds embeddings of another vision encoder (its weights, image "
                    "size, merged tokens or precision differ): delete the folder, or choose "
                    "another one in `data.cache_embeddings`"
                )
            keys, records = path.read_bytes(), path.with_suffix(".records")
            num_bytes = records.stat().st_size if records.exists() else 0
            for index in range(min(len(keys) // KEY_SIZE, num_bytes // self.record_size)):
                key = keys[index * KEY_SIZE : (index + 1) * KEY_SIZE]
                offset = index * self.record_size
                self.embeddings[key] = Embedding(records, offset, self.shape, self.dtype)

    def check_free_space(self, count: int) -> None:
        """Create the folder, and check that `count` more embeddings fit on its disk.

        Raises:
            CutlineError: The folder cannot be created, or they do not fit.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CutlineError(
                f"{self.folder}: cannot be created ({error.strerror}); "
                "choose another folder in `data.cache_embeddings`"
            ) from None
        needed, free = count * (self.record_size + KEY_SIZE), shutil.disk_usage(self.folder).free
        if needed > free:
            raise CutlineError(
                f"{self.folder}: {count} embeddings need {needed / 1e9:.1f} GB, and "
                f"{free / 1e9:.1f} GB are free: free disk space, or choose another folder in "
                "`data.cache_embeddings`"
            )

    def append(self, keys: Sequence[bytes], image_embeds: Tensor) -> None:
        """Write the embeddings of B images to this process's part.

        Args:
            keys: Keys of the images.
            image_embeds: (B, N, D).

        Raises:
            CutlineError: They cannot be written.
        """
        # Records are on the disk before their keys are written; see the top of the file.
        records = image_embeds.to("cpu", self.dtype).contiguous().view(torch.uint8).numpy()
        try:
            for suffix, content in ((".records", records.tobytes()), (".keys", b"".join(keys))):
                with self.part.with_suffix(suffix).open("ab") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise CutlineError(
                f"{self.folder}: cannot be written ({error.strerror}); free disk space and start "
                "again: the embeddings already in it are kept"
            ) from None
