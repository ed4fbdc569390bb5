"""`--show-batch`: the first batch, token by token."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cutline.config import Recipe
from cutline.errors import DataError
from cutline.training import show_first_batch, train
from cutline.training.data.batch import load_batches
from cutline.training.data.sampler import BatchSampler
from cutline.training.loop.trainer import Trainer
from cutline.training.setup import prepare_run


def test_every_token_stands_with_label_and_loss_and_they_sum_to_the_loss(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    text = show_first_batch(recipe())
    rows = re.findall(r"^  (\d+) +(\S+) +(\S+|\(not scored\)) +(-|[\d.]+)$", text, re.M)
    assert rows[0][1:] == ("[DEC]", "(not scored)", "-")
    assert [row[1] for row in rows[:4]] == ["[DEC]", "a", "image", "of"]
    assert rows[3][3] != "-"  # after the prompt the first word is scored
    total, mean = map(float, re.search(r"summed loss ([\d.]+), mean ([\d.]+)", text).groups())  # type: ignore[union-attr]
    assert sum(float(row[3]) for row in rows if row[3] != "-") == pytest.approx(total, abs=0.01)

    run = recipe()
    prepared = prepare_run(run)
    trainer = Trainer(run, prepared, tmp_path, resume=False)
    batch = next(
        load_batches(
            prepared.rows,
            BatchSampler(len(prepared.rows), 5, 0).keys(0, 1),
            prepared.tokenizer.pad_id,
            0,
        )
    )
    with torch.no_grad():
        loss, count = trainer.loss(trainer.model.eval(), batch), batch.token_count
    assert float(loss) == pytest.approx(total, abs=0.01)
    assert float(loss) / count == pytest.approx(mean, abs=1e-4)


def test_a_first_batch_that_cannot_be_read_is_named(
    recipe: Callable[..., Recipe], scenes: Path, tmp_path: Path
) -> None:
    shutil.copy(scenes, tmp_path / "captions.jsonl")  # the images stay behind
    with pytest.raises(DataError, match="none of its images can be read"):
        show_first_batch(recipe(data_train=str(tmp_path / "captions.jsonl")))


def test_the_first_batch_is_the_one_that_training_sees(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    off = {"optim_dropout": 0.0, "optim_drop_path": 0.0}
    mean = float(re.search(r"mean ([\d.]+)", show_first_batch(recipe(**off))).group(1))  # type: ignore[union-attr]
    from cutline.training import read_log

    folder = train(recipe(**off), show_progress=False).parent
    assert read_log(folder / "log.jsonl")[0]["loss"] == pytest.approx(mean, abs=1e-4)
