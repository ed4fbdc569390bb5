"""Pictures: open them, resize and normalise them, augment them."""

from cutline.image.ahead import read_ahead
from cutline.image.augment import augment
from cutline.image.open import ImageSource, open_image
from cutline.image.resize import normalize, preprocess, to_pixels
from cutline.image.thumbnail import open_thumbnail

__all__ = ["ImageSource", "augment", "normalize", "open_image", "open_thumbnail", "preprocess", "read_ahead", "to_pixels"]
