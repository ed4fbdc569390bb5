"""Data sets: where the pictures are, and what is said of them. No picture is opened here."""

from cutline.data.open import find_images, open_beside, open_data
from cutline.data.sample import Sample
from cutline.data.shards import is_shards, list_shards, stream_shards
from cutline.data.split import split_by_picture
from cutline.data.write import check_output, write_captions

__all__ = [
    "Sample",
    "check_output",
    "find_images",
    "is_shards",
    "list_shards",
    "open_beside",
    "open_data",
    "split_by_picture",
    "stream_shards",
    "write_captions",
]
