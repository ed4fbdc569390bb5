"""Images: opening, resizing, normalizing, augmenting and prefetching."""

from cutline.image.augment import augment
from cutline.image.open import ImageSource, open_image
from cutline.image.prefetch import ImagePrefetcher, prefetch_images, read_pixels, start_pool
from cutline.image.resize import normalize, open_thumbnail, preprocess, to_pixels

__all__ = [
    "ImagePrefetcher",
    "ImageSource",
    "augment",
    "normalize",
    "open_image",
    "open_thumbnail",
    "prefetch_images",
    "preprocess",
    "read_pixels",
    "start_pool",
    "to_pixels",
]
