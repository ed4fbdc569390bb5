"""Small copies of images."""

from PIL import Image

from cutline.image.open import ImageSource, open_image


def open_thumbnail(source: ImageSource, longest: int) -> Image.Image:
    """The image with its longer side reduced to `longest` pixels, if it is longer. Raises ImageError."""
    image = open_image(source)
    image = image.copy() if image is source else image  # the caller's own stays as it is
    image.thumbnail((longest, longest))
    return image
