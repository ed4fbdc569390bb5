"""The cost model of docs/clusters.md: benchmarks/cost.py computes what the page says."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from cost import Cost, Measured, Options, format_bytes, format_number  # noqa: E402

sys.path.remove(str(BENCHMARKS))

amounts = st.floats(1e-3, 1e6)
costs = st.builds(
    Cost,
    st.builds(Measured, amounts, amounts, amounts, amounts, amounts),
    st.builds(
        Options,
        result=st.just(Path()),
        images=amounts,
        devices=st.integers(1, 10_000),
        cores_per_device=amounts,
        read_gb_per_s=amounts,
    ),
)
quick = settings(max_examples=50, deadline=None, derandomize=True)


def with_rates(cost: Cost, cores: float, bytes_per_second: float) -> Cost:
    options = replace(cost.options, cores_per_device=cores, read_gb_per_s=bytes_per_second / 1e9)
    return replace(cost, options=options)


@quick
@given(costs)
def test_the_bottleneck_moves_where_the_page_says(cost: Cost) -> None:
    cores, rate = cost.balanced_cores, cost.balanced_read
    assert with_rates(cost, 1.01 * cores, 1.01 * rate).bottleneck == "model"
    assert with_rates(cost, 0.99 * cores, 1.01 * rate).bottleneck == "decoding"
    assert with_rates(cost, 1.01 * cores, 0.99 * rate).bottleneck == "reading"
    # with half of the cores, half of the rate is enough
    assert with_rates(cost, 0.5 * cores, 0.51 * rate).bottleneck == "decoding"


@quick
@given(costs, st.floats(1, 1e4))
def test_the_longest_stage_is_the_wall_time(cost: Cost, factor: float) -> None:
    faster = cost.with_faster_devices(factor)
    assert cost.wall_hours == max(cost.stages.values()) == cost.stages[cost.bottleneck]
    assert faster.stages["model"] == pytest.approx(cost.stages["model"] / factor)
    assert faster.wall_hours <= cost.wall_hours
    assert faster.balanced_cores == pytest.approx(cost.balanced_cores * factor)
    assert faster.read_bytes == cost.read_bytes


def test_numbers_have_three_digits() -> None:
    assert [format_number(value) for value in (0.012345, 1.5, 99.95, 123.4, 277777.8)] == [
        "0.0123",
        "1.5",
        "100",
        "123",
        "278,000",
    ]
    assert [format_bytes(value) for value in (12, 123456, 1e15)] == ["12 B", "123 kB", "1 PB"]
