"""The state of a run, on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from cutline.errors import CheckpointError
from cutline.training.loop.ema import init_ema, update_ema
from cutline.training.loop.state import Progress, load_state, save_state


def trained(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model whose optimiser has moments."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_round_trip(tmp_path: Path) -> None:
    model, optimizer = trained(0)
    average = init_ema(nn.Linear(3, 2))
    progress = Progress(step=7, rows_per_step=14, best=1.5, loss_sum=0.1 + 0.2)
    save_state(tmp_path / "state", model, average, optimizer, progress)
    other, other_optimizer = trained(1)
    other_average = init_ema(nn.Linear(3, 2))
    assert load_state(tmp_path / "state", other, other_average, other_optimizer) == progress
    assert torch.equal(other.weight, model.weight)  # type: ignore[arg-type]
    assert all(torch.equal(other_average[name], average[name]) for name in ("weight", "bias"))
    pairs = list(
        zip(
            optimizer.state_dict()["state"].values(),
            other_optimizer.state_dict()["state"].values(),
            strict=True,
        )
    )
    assert len(pairs) == 2
    assert all(torch.equal(one[key], two[key]) for one, two in pairs for key in one)
    assert list(tmp_path.iterdir()) == [tmp_path / "state"]


def test_a_full_disk_keeps_the_last_good_state(
    tmp_path: Path, limit_file_size: Callable[[int], None]
) -> None:
    model, optimizer = trained(0)
    path = tmp_path / "state"
    path.write_text("the last good state")
    limit_file_size(500)
    with pytest.raises(
        CheckpointError, match=r"state: cannot be written .*the previous file is unchanged"
    ):
        save_state(path, model, {}, optimizer, Progress())
    assert path.read_text() == "the last good state"
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    model, optimizer = trained(0)
    save_state(tmp_path / "state", model, {}, optimizer, Progress())
    other = nn.Linear(5, 2)
    with pytest.raises(CheckpointError, match="the run's state cannot be read"):
        load_state(tmp_path / "state", other, {}, torch.optim.AdamW(other.parameters()))


def test_the_average_follows_the_model() -> None:
    """Its decay grows with the steps, and never beyond the one asked for."""
    for step, weight in ((0, 0.9), (90, 0.09), (10**6, 0.01)):
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        average = init_ema(model)
        nn.init.ones_(model.weight)
        update_ema(average, model, step, decay=0.99)
        assert average["weight"].item() == pytest.approx(weight)
