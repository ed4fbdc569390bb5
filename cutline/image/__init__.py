"""Images: opening, resizing, normalizing, augmenting and prefetching."""

from cutline.image.augment import augment
from cutline.image.limits import MAX_PIXELS
from cutline.image.open import ImageSource, hold_image, open_image
from cutline.image.prefetch import (
    ImagePrefetcher,
    OpenedImage,
    describe_failure,
    prefetch_images,
    read_pixels,
)
from cutline.image.resize import normalize, open_thumbnail, preprocess, to_pixels

__all__ = [
    "MAX_PIXELS",
    "ImagePrefetcher",
    "ImageSource",
    "OpenedImage",
    "augment",
    "describe_failure",
    "hold_image",
    "normalize",
    "open_image",
    "open_thumbnail",
    "prefetch_images",
    "preprocess",
    "read_pixels",
    "to_pixels",
]
