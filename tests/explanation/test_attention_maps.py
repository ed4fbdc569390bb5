"""Heat-maps of the raw cross-attention, in all engines and precisions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cutline
from cutline.captioner import Captioner
from cutline.explanation import Explanation

CAPTION = "a red circle above two blue star"


def explain_by_attention(captioner: Captioner, images: list[Image.Image]) -> list[Explanation]:
    return cutline.explain(captioner, images, CAPTION, method="attention")


@pytest.mark.parametrize(
    ("engine", "precision", "tolerance"),
    [
        ("packed", "fp32", 1e-5),
        ("eager", "bf16", 0.05),
        ("packed", "bf16", 0.05),
        ("packed", "int8", 0.2),
    ],
)
def test_any_engine_has_the_maps_of_the_eager_one(
    folder: Path,
    captioner: Captioner,
    images: list[Image.Image],
    engine: Any,
    precision: Any,
    tolerance: float,
) -> None:
    other = cutline.load(folder, "cpu", precision, engine=engine)
    expected = explain_by_attention(captioner, images)
    with torch.inference_mode():  # as a server calls it
        actual = explain_by_attention(other, images)
    for one, two in zip(expected, actual, strict=True):
        assert [word.text for word in one.words] == CAPTION.split()
        for first, second in zip(one.words, two.words, strict=True):
            assert np.abs(first.map - second.map).max() < tolerance
    assert "eager_copy" not in vars(other)


def test_the_map_is_the_mean_over_layers_heads_and_pieces(captioner: Captioner) -> None:
    """Each piece counts at the position before it, which predicts it."""
    image = Image.new("RGB", (32, 32), "red")
    explanation = cutline.explain(
        captioner, image, "a starcircle", method="attention", prompt="two "
    )
    ids = captioner.tokenizer.encode("a starcircle", "two ").token_ids
    [word] = [word for word in explanation.words if word.text == "starcircle"]
    first = len(captioner.tokenizer.encode("a", "two ").token_ids) - 1
    assert len(ids) - 1 - first > 1  # several pieces
    pixels = torch.full((1, 3, 32, 32), 0, dtype=torch.uint8)
    pixels[:, 0] = 255
    with torch.no_grad():
        embeds = captioner.encode_images(pixels)
        _, layers = captioner.model.text.forward_with_attention(torch.tensor([ids]), embeds)
    rows = [layer[0, :, at - 1, 1:] for layer in layers for at in range(first, len(ids) - 1)]
    mean = torch.stack(rows).mean((0, 1))
    np.testing.assert_allclose(word.map.ravel(), mean / mean.sum(), rtol=1e-5)


def test_a_batch_has_the_maps_of_its_images(
    captioner: Captioner, images: list[Image.Image]
) -> None:
    captions = ["a circle", CAPTION, "two star"]
    together = cutline.explain(captioner, images, captions, method="attention", batch_size=2)
    for image, caption, one in zip(images, captions, together, strict=True):
        alone = cutline.explain(captioner, image, caption, method="attention")
        assert alone.text == one.text == caption
        for first, second in zip(alone.words, one.words, strict=True):
            np.testing.assert_allclose(first.map, second.map, rtol=1e-4)
