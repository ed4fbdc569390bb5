"""The number of weights that is computed from sizes alone, and what it is for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutline.checkpoint.checkpoint import build_empty_model
from cutline.config import PRESETS, CaptionConfig, ModelSettings, Recipe, TextConfig, VisionConfig
from cutline.config.size import count_parameters
from cutline.errors import ConfigError
from cutline.training import setup

SMALL = st.integers(1, 5)


@st.composite
def configs(draw: st.DrawFn) -> CaptionConfig:
    patch, heads, text_heads = draw(SMALL), draw(SMALL), draw(SMALL)
    vision = VisionConfig(
        image_size=patch * draw(SMALL),
        patch_size=patch,
        embed_dim=heads * draw(SMALL),
        depth=draw(SMALL),
        num_heads=heads,
        mlp_ratio=draw(st.floats(1, 5)),
    )
    text = TextConfig(
        vocab_size=draw(SMALL),
        embed_dim=text_heads * draw(SMALL),
        depth=draw(SMALL),
        num_heads=text_heads,
        mlp_dim=draw(SMALL),
        max_positions=draw(SMALL),
    )
    return CaptionConfig(vision, text)


def count_built(config: CaptionConfig) -> int:
    return sum(weight.numel() for weight in build_empty_model(config).parameters())


@settings(max_examples=20, deadline=None, derandomize=True)
@given(configs())
def test_the_number_of_weights_is_that_of_the_model(config: CaptionConfig) -> None:
    assert count_parameters(config) == count_built(config)


@pytest.mark.parametrize("config", PRESETS.values(), ids=list(PRESETS))
def test_the_number_of_weights_of_presets(config: CaptionConfig) -> None:
    assert count_parameters(config) == count_built(config)


def test_a_model_that_does_not_fit_into_memory_is_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(setup, "available_memory", lambda device: 10**9)
    monkeypatch.setattr(torch.nn.Module, "__init__", lambda self: pytest.fail("a model is built"))
    recipe = Recipe(model=ModelSettings.from_config(PRESETS["large"]))
    message = r"^the weights of the model need 1\.8 GB and 1\.0 GB of memory are available: lower"
    with pytest.raises(ConfigError, match=message):
        setup.prepare_run(recipe)
