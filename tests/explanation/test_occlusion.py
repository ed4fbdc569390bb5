"""Occlusion: where it finds what a word depends on, and which windows it hides."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_captioner import enlarge_weights, make_captioner
from torch import Tensor

import cutline
from cutline.captioner import Captioner
from cutline.config import ExplainConfig, VisionConfig
from cutline.errors import ConfigError
from cutline.explanation.occlusion import hide, list_offsets, map_occlusion
from cutline.explanation.target import Target, encode_given, make_target
from cutline.model import CaptionModel
from cutline.progress import no_progress

CAPTION = "a red starcircle above two"


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    """Return a captioner of four by four patches of 8 pixels."""
    other = make_captioner()
    config = replace(other.config, vision=replace(other.config.vision, patch_size=8))
    torch.manual_seed(0)
    return Captioner(enlarge_weights(CaptionModel(config)), other.tokenizer, "cpu", "fp32")


def make_gray_target(captioner: Captioner, pixels: Tensor) -> Target:
    encoded = encode_given(captioner, CAPTION, captioner.config.prompt)
    return make_target(captioner.tokenizer, pixels, encoded)


def occlude(captioner: Captioner, pixels: Tensor, window: int, stride: int) -> Tensor:
    config = ExplainConfig("occlusion", window, stride)
    target = make_gray_target(captioner, pixels)
    return map_occlusion(captioner, target, config, batch_size=3, progress=no_progress)


@pytest.mark.parametrize("patch", [(0, 0), (1, 2), (3, 3)])
def test_what_words_depend_on_is_found(captioner: Captioner, patch: tuple[int, int]) -> None:
    """A gray image with checks of the same mean in one patch: only they can be hidden."""
    pixels = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    rows, columns = (slice(8 * at, 8 * at + 8) for at in patch)
    pixels[:, rows, columns] = torch.tensor([[0, 255], [255, 1]], dtype=torch.uint8).repeat(4, 4)
    drops = occlude(captioner, pixels, 1, 1).view(-1, 4, 4)
    assert len(drops) == 5
    for drop in drops:
        others = drop.clone()
        others[patch] = 0
        assert drop[patch].abs() > 1e-3
        assert others.abs().max() < 1e-5 < drop[patch].abs()


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (2, 1), (3, 2), (4, 1)])
def test_a_patch_has_the_mean_of_its_windows(
    captioner: Captioner, window: int, stride: int
) -> None:
    """Against scores of images that are hidden one by one."""
    pixels = torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(1))
    pixels = pixels.to(torch.uint8)
    words = make_gray_target(captioner, pixels).words
    first = len(captioner.tokenizer.encode_prompt(captioner.config.prompt))

    def score(image: Tensor) -> Tensor:
        array = image.permute(1, 2, 0).numpy()
        log_probs = captioner.score(np.ascontiguousarray(array), CAPTION)[0].token_log_probs
        sums = [sum(log_probs[token - first] for token in word.tokens) for word in words]
        return torch.tensor(sums, dtype=torch.float64)

    drops: dict[tuple[int, int], list[Tensor]] = {}
    offsets = list_offsets(captioner.config.vision, ExplainConfig("occlusion", window, stride))[1]
    for top in offsets:
        for left in offsets:
            drop = score(pixels) - score(hide(pixels, (top, left), window, 8))
            for row in range(top, top + window):
                for column in range(left, left + window):
                    drops.setdefault((row, column), []).append(drop)
    means = [torch.stack(drops[row, column]).mean(0) for row in range(4) for column in range(4)]
    actual = occlude(captioner, pixels, window, stride)
    torch.testing.assert_close(actual, torch.stack(means, 1), atol=1e-4, rtol=1e-4)


@settings(max_examples=100, derandomize=True)
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 40))
def test_windows_cover_the_image(grid: int, window: int, stride: int) -> None:
    if (window and stride > window) or window > grid:
        return
    vision = VisionConfig(image_size=4 * grid, patch_size=4, embed_dim=4, num_heads=1)
    try:
        side, offsets = list_offsets(vision, ExplainConfig("occlusion", window, stride))
    except ConfigError as error:
        assert window == 0 < stride
        assert "is above window" in str(error)  # noqa: PT017
        return
    assert side == (window or max(1, grid // 4))
    assert {at + i for at in offsets for i in range(side)} == set(range(grid))


def test_settings_that_do_not_fit_are_refused(captioner: Captioner) -> None:
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    with pytest.raises(ConfigError, match="window 5 is above the 4 patches of a side"):
        cutline.explain(captioner, image, "a", method="occlusion", window=5)
    with pytest.raises(ConfigError, match="stride 3 is above window 2"):
        cutline.explain(captioner, image, "a", method="occlusion", window=2, stride=3)
    with pytest.raises(ConfigError, match="window is for occlusion, not gradient"):
        cutline.explain(captioner, image, "a", window=2)
