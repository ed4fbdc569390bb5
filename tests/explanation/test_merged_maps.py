"""Heat-maps of captioners that merge tokens."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cutline
from cutline.captioner import Captioner
from cutline.config import CaptionConfig
from cutline.engine.compiled import CompiledVision
from cutline.errors import ConfigError
from cutline.explanation.merged_tokens import spread_weights
from cutline.model import CaptionModel

CAPTION = "a red circle above two blue star"


def copy_with(captioner: Captioner, merge_tokens: int, same_positions: bool) -> Captioner:
    """Return a copy that merges tokens, perhaps with one position embedding for all patches."""
    config: CaptionConfig = replace(captioner.config, merge_tokens=merge_tokens)
    model = CaptionModel(config)
    model.load_state_dict(captioner.model.state_dict())
    if same_positions:
        with torch.no_grad():
            model.vision.pos_embed[:, 1:] = model.vision.pos_embed[:, 1:2].clone()
    return Captioner(model, captioner.tokenizer, "cpu", "fp32")


def test_a_merged_token_divides_its_weight_evenly() -> None:
    weights = torch.tensor([[[0.1, 0.6, 0.3]], [[0.2, 0.2, 0.6]]])
    assignment = torch.tensor([[0, 1, 1, 2], [0, 1, 2, 2]])
    spread = spread_weights(weights, assignment)
    torch.testing.assert_close(
        spread, torch.tensor([[[0.1, 0.3, 0.3, 0.3]], [[0.2, 0.2, 0.3, 0.3]]])
    )
    assert spread_weights(weights, None) is weights


@pytest.mark.parametrize("method", ["attention", "gradient"])
def test_equal_patches_have_the_maps_of_before(captioner: Captioner, method: Any) -> None:
    """Patches that are equal merge without changing anything, so that maps must not change."""
    image = Image.new("RGB", (32, 32), "red")
    plain, merging = (copy_with(captioner, number, same_positions=True) for number in (0, 2))
    expected, actual = (
        cutline.explain(each, image, CAPTION, method=method) for each in (plain, merging)
    )
    for one, two in zip(expected.words, actual.words, strict=True):
        assert np.abs(one.map - two.map).max() < 1e-4


def test_an_encoder_that_does_not_say_what_merges_is_an_error(captioner: Captioner) -> None:
    """The compiled encoder returns embeddings only."""
    merging = copy_with(captioner, 1, same_positions=False)
    encoder = merging.model.vision
    merging.model.vision = CompiledVision(encoder.config, encoder)  # type: ignore[assignment]
    image = Image.new("RGB", (32, 32), "red")
    with pytest.raises(ConfigError, match=r"does not say which tokens it merges: load .*packed"):
        cutline.explain(merging, image, CAPTION, method="attention")
    assert len(cutline.explain(merging, image, CAPTION, method="occlusion").words) == 7


def test_a_packed_captioner_has_the_gradients_of_one_that_merges_as_it_does(
    folder: Path, captioner: Captioner, images: list[Image.Image]
) -> None:
    merging = copy_with(captioner, 1, same_positions=False)
    packed = cutline.load(folder, "cpu", "fp32", merge_tokens=1)
    expected, actual = (cutline.explain(each, images[0], CAPTION) for each in (merging, packed))
    for one, two in zip(expected.words, actual.words, strict=True):
        assert np.abs(one.map - two.map).max() < 1e-4


@pytest.mark.parametrize("method", ["attention", "gradient", "occlusion"])
def test_every_method_maps_every_patch(
    captioner: Captioner, images: list[Image.Image], method: Any
) -> None:
    merging = copy_with(captioner, 1, same_positions=False)
    for explanation in cutline.explain(merging, images, CAPTION, method=method):
        assert [word.text for word in explanation.words] == CAPTION.split()
        assert {word.map.shape for word in explanation.words} == {(2, 2)}
