"""The recipes that come with cutline."""

from dataclasses import asdict
from pathlib import Path

import pytest

from cutline.config import PRESETS, OptimConfig, read_recipe

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_valid_and_runs_into_a_folder_of_its_own_name(path: Path) -> None:
    assert read_recipe(path).output == f"runs/{path.stem}"


@pytest.mark.parametrize(
    ("size", "lr", "batch_size", "recomputed"), [("base", 1e-5, 32, 0), ("large", 2e-6, 16, 5)]
)
def test_the_recipes_of_the_paper_are_the_reference_s(
    size: str, lr: float, batch_size: int, recomputed: int
) -> None:
    """As BLIP's configs/caption_coco.yaml and train_caption.py have it."""
    recipe = read_recipe(RECIPES[0].with_name(f"coco-{size}.yaml"))
    reference = OptimConfig(
        batch_size=batch_size,
        epochs=5,
        lr=lr,
        schedule="cosine_epoch",
        weight_decay=0.05,
        label_smoothing=0.1,
        dropout=0.1,
        drop_path=PRESETS[size].vision.drop_path,
        vit_grad_ckpt=bool(recomputed),
        vit_ckpt_layer=recomputed,
    )
    assert asdict(recipe.optim) == asdict(reference)
    assert (recipe.precision, recipe.start.config, recipe.start.image_size) == ("fp32", size, 384)
    data, generation = recipe.data, recipe.generation
    assert (data.prompt, data.clean, data.max_words, data.max_tokens, data.captions_per_image) == (
        "a picture of ",
        "blip",
        30,
        40,
        0,
    )
    assert (data.crop_scale, data.flip, data.quarter_turns, data.randaugment) == (
        (0.5, 1.0),
        True,
        False,
        True,
    )
    assert (
        generation.num_beams,
        generation.max_length,
        generation.min_length,
        generation.beam_scoring,
    ) == (3, 20, 5, "blip")
    assert (recipe.eval.every, recipe.eval.by) == (1, "captions")
