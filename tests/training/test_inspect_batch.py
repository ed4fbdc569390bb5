"""`--show-batch`: the first batch, token by token."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_recipe import NO_DROPOUT

from cutline.config import Recipe
from cutline.errors import DataError
from cutline.training import inspect_first_batch, read_log, train
from cutline.training.data.batch import load_batches
from cutline.training.data.sampler import BatchSampler
from cutline.training.loop.trainer import Trainer
from cutline.training.setup import prepare_run

ROW = re.compile(r"^  (\d+) +(\S+) +(\S+|\(not scored\)) +(-|[\d.]+)$", re.M)


def read_totals(text: str) -> tuple[float, float]:
    """Return the sum and the mean of the losses."""
    match = re.search(r"summed loss ([\d.]+), mean ([\d.]+)", text)
    assert match
    return float(match[1]), float(match[2])


def test_tokens_have_labels_and_losses_that_add_up(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    text = inspect_first_batch(recipe())
    rows = ROW.findall(text)
    assert rows[0][1:] == ("[DEC]", "(not scored)", "-")
    assert [row[1] for row in rows[:4]] == ["[DEC]", "a", "picture", "of"]
    assert rows[3][3] != "-"  # the last prompt token predicts the first word
    total, mean = read_totals(text)
    assert sum(float(row[3]) for row in rows if row[3] != "-") == pytest.approx(total, abs=0.01)

    run = recipe()
    setup = prepare_run(run)
    trainer = Trainer(run, setup, tmp_path, resume=False)
    keys = BatchSampler(len(setup.dataset), 5, 0).iter_batches(0, 1)
    batch = next(load_batches(setup.dataset, keys, setup.loader_config()))
    with torch.no_grad():
        loss = float(trainer.compute_loss(trainer.model.eval(), batch).loss)
    assert loss == pytest.approx(total, abs=0.01)
    assert loss / batch.num_targets == pytest.approx(mean, abs=1e-4)


def test_the_table_does_not_depend_on_the_bag_of_words_loss(recipe: Callable[..., Recipe]) -> None:
    with_words = recipe(caption_bag_of_words_weight=0.1)
    assert inspect_first_batch(with_words) == inspect_first_batch(recipe())


def test_data_without_a_readable_image_are_refused(
    recipe: Callable[..., Recipe], scenes: Path, tmp_path: Path
) -> None:
    shutil.copy(scenes, tmp_path / "captions.jsonl")  # without the images
    with pytest.raises(DataError, match="none of the images can be read"):
        inspect_first_batch(recipe(data_train=str(tmp_path / "captions.jsonl")))


def test_the_first_batch_is_that_of_training(recipe: Callable[..., Recipe]) -> None:
    _, mean = read_totals(inspect_first_batch(recipe(**NO_DROPOUT)))
    directory = train(recipe(**NO_DROPOUT), show_progress=False).parent
    assert read_log(directory / "log.jsonl")[0]["loss"] == pytest.approx(mean, abs=1e-4)
