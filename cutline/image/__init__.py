"""Images: open them, resize and normalise them, augment them."""

from cutline.image.augment import augment
from cutline.image.open import ImageSource, open_image
from cutline.image.prefetch import prefetch_images
from cutline.image.resize import normalize, preprocess, to_pixels
from cutline.image.thumbnail import open_thumbnail

__all__ = [
    "ImageSource",
    "augment",
    "normalize",
    "open_image",
    "open_thumbnail",
    "prefetch_images",
    "preprocess",
    "to_pixels",
]
