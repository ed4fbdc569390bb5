"""Datasets: reading, grouping, splitting and streaming samples, which are images with captions.

No image is opened here.
"""

from cutline.data.coco_results import is_results_path, write_results
from cutline.data.iterate import count_data, iter_data, iter_list
from cutline.data.open import no_captions_error, open_data, open_references, open_related_data
from cutline.data.sample import Sample, group_by_image
from cutline.data.shard_stream import stream_shards
from cutline.data.shards import is_shards, list_shards, reject_commands
from cutline.data.split import split_samples
from cutline.data.write import find_table_format, write_captions

__all__ = [
    "Sample",
    "count_data",
    "find_table_format",
    "group_by_image",
    "is_results_path",
    "is_shards",
    "iter_data",
    "iter_list",
    "list_shards",
    "no_captions_error",
    "open_data",
    "open_references",
    "open_related_data",
    "reject_commands",
    "split_samples",
    "stream_shards",
    "write_captions",
    "write_results",
]
