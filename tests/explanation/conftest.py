"""Small captioners, and images."""

from pathlib import Path

import pytest
from PIL import Image
from random_captioner import draw_images, make_captioner, save_captioner

from cutline.captioner import Captioner


@pytest.fixture(scope="package")
def captioner() -> Captioner:
    """Return a captioner of two by two patches with random weights, in fp32 by engine eager."""
    return make_captioner()


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the same captioner."""
    path = tmp_path_factory.mktemp("explanation") / "captioner"
    save_captioner(path)
    return path


@pytest.fixture(scope="package")
def images() -> list[Image.Image]:
    return draw_images(3)
