"""Training a matcher in bf16."""

import math
from pathlib import Path

from tiny_recipe import MATCH, tiny_recipe

import cutline
from cutline.demo.scenes import make_scenes, write_scenes
from cutline.training import read_log, train


def test_recomputed_layers_run_several_times_in_a_step(tmp_path: Path) -> None:
    """Texts are read alone and with images, and activations are recomputed by default."""
    data = write_scenes(tmp_path / "scenes", make_scenes(10, seed=2), size=32)
    recipe = tiny_recipe(data, tmp_path / "run", **MATCH, precision="bf16", optim_max_steps=2)
    best = train(recipe)
    losses = [line["loss"] for line in read_log(tmp_path / "run" / "log.jsonl") if "loss" in line]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    assert isinstance(cutline.load_matcher(best), cutline.Matcher)
