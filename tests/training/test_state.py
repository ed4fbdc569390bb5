"""The state of a run on disk, and the average of the weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from cutline.errors import CheckpointError
from cutline.training.loop.ema import init_ema, update_ema
from cutline.training.loop.state import TrainerState, load_state, save_state


def train_once(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model after one step, and its optimizer, which has moments."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_state_survives_a_round_trip(tmp_path: Path) -> None:
    model, optimizer = train_once(0)
    ema = init_ema(nn.Linear(3, 2))
    state = TrainerState(step=7, examples_per_step=14, best_score=1.5, loss_sum=0.1 + 0.2)
    save_state(tmp_path / "state", model, ema, optimizer, state)
    loaded, loaded_optimizer = train_once(1)
    loaded_ema = init_ema(nn.Linear(3, 2))
    assert load_state(tmp_path / "state", loaded, loaded_ema, loaded_optimizer) == state
    assert torch.equal(loaded.weight, model.weight)
    assert all(torch.equal(loaded_ema[name], ema[name]) for name in ("weight", "bias"))
    moments = list(
        zip(
            optimizer.state_dict()["state"].values(),
            loaded_optimizer.state_dict()["state"].values(),
            strict=True,
        )
    )
    assert len(moments) == 2
    assert all(torch.equal(old[key], new[key]) for old, new in moments for key in old)
    assert list(tmp_path.iterdir()) == [tmp_path / "state"]


def test_full_disk_keeps_the_last_good_state(
    tmp_path: Path, limit_file_size: Callable[[int | None], None]
) -> None:
    model, optimizer = train_once(0)
    path = tmp_path / "state"
    path.write_text("the last good state")
    limit_file_size(500)
    with pytest.raises(
        CheckpointError, match=r"state: cannot be written .*the previous file is unchanged"
    ):
        save_state(path, model, {}, optimizer, TrainerState())
    assert path.read_text() == "the last good state"
    assert list(tmp_path.iterdir()) == [path]


def test_state_of_another_model_is_refused(tmp_path: Path) -> None:
    model, optimizer = train_once(0)
    save_state(tmp_path / "state", model, {}, optimizer, TrainerState())
    other = nn.Linear(5, 2)
    with pytest.raises(CheckpointError, match="the state of the run cannot be read"):
        load_state(tmp_path / "state", other, {}, torch.optim.AdamW(other.parameters()))


def test_average_follows_the_model() -> None:
    """Its decay grows with the steps up to the one that is set."""
    for step, weight in ((0, 0.9), (90, 0.09), (10**6, 0.01)):
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        ema = init_ema(model)
        nn.init.ones_(model.weight)
        update_ema(ema, model, step, decay=0.99)
        assert ema["weight"].item() == pytest.approx(weight)
