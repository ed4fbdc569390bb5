"""The recipes in recipes/."""

from pathlib import Path

import pytest

from cutline.config import (
    PRESETS,
    LoraConfig,
    MatchTaskConfig,
    MemoryConfig,
    OptimConfig,
    read_recipe,
)

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_valid_and_has_its_own_output(path: Path) -> None:
    assert read_recipe(path).output == f"runs/{path.stem}"


def test_the_recipe_of_a_matcher_trains_one() -> None:
    recipe = read_recipe(RECIPES[0].with_name("match.yaml"))
    assert (recipe.task, recipe.data.max_tokens, recipe.match) == ("match", 35, MatchTaskConfig())


def test_the_recipe_of_pre_training_is_that_of_the_reference() -> None:
    """As in BLIP's configs/pretrain.yaml and models/blip_pretrain.py, but for its schedule."""
    recipe = read_recipe(RECIPES[0].with_name("pretrain.yaml"))
    assert (recipe.task, recipe.match) == (
        "pretrain",
        MatchTaskConfig(momentum=0.995, queue_size=57600, alpha=0.4),
    )
    data, optim = recipe.data, recipe.optim
    assert (data.max_words, data.max_tokens, data.crop_scale) == (30, 30, (0.2, 1.0))
    assert (optim.batch_size, optim.min_lr, optim.weight_decay) == (75, 1e-6, 0.05)


@pytest.mark.parametrize(
    ("size", "lr", "batch_size", "checkpointed"), [("base", 1e-5, 32, 0), ("large", 2e-6, 16, 5)]
)
def test_coco_recipes_match_the_reference(
    size: str, lr: float, batch_size: int, checkpointed: int
) -> None:
    """As in BLIP's configs/caption_coco.yaml and train_caption.py."""
    recipe = read_recipe(RECIPES[0].with_name(f"coco-{size}.yaml"))
    assert recipe.optim == OptimConfig(
        batch_size=batch_size, epochs=5, lr=lr, schedule="cosine_epoch", weight_decay=0.05
    )
    assert recipe.lora == LoraConfig()
    assert recipe.memory == MemoryConfig(
        vit_grad_ckpt=bool(checkpointed), vit_ckpt_layer=checkpointed
    )
    assert (recipe.precision, recipe.init.config, recipe.init.image_size) == ("fp32", size, 384)
    model, preset = recipe.model.override(PRESETS["tiny"]), PRESETS[size]
    assert (model.prompt, model.label_smoothing) == ("a picture of ", 0.1)
    assert (model.text.dropout, model.text.attn_dropout) == (0.1, 0.1)
    assert model.vision.drop_path == preset.vision.drop_path
    data, generation = recipe.data, recipe.generation
    assert (data.clean, data.max_words, data.max_tokens) == ("blip", 30, 40)
    assert data.captions_per_image == 0
    assert (data.crop_scale, data.flip, data.rot90, data.randaugment) == (
        (0.5, 1.0),
        True,
        False,
        True,
    )
    assert (generation.num_beams, generation.max_length, generation.min_length) == (3, 20, 5)
    assert generation.beam_scoring == "blip"
    assert (recipe.eval.every_epochs, recipe.eval.select_by) == (1, "captions")
