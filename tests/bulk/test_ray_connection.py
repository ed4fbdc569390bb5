"""Addresses of Ray clusters, and the resources of their actors."""

import socket
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutline.bulk.ray_connection import connect_ray, share_cores
from cutline.errors import ConfigError


@given(st.lists(st.integers(0, 100), max_size=5), st.integers(1, 200))
def test_all_actors_fit_if_there_are_enough_cores(cores: list[int], num_actors: int) -> None:
    def count_actors(size: int) -> int:
        return sum(count // size for count in cores)

    size = share_cores(cores, num_actors)
    assert size == 1 or count_actors(size) >= num_actors
    assert count_actors(size + 1) < num_actors


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ConfigError, match=r"needs ray.* pip install 'cutline\[ray\]'"),
        connect_ray(""),
    ):
        pass


@pytest.mark.slow  # imports Ray
@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_refused_at_once(scheme: str) -> None:
    pytest.importorskip("ray")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # it does not listen
        address = f"{scheme}127.0.0.1:{listener.getsockname()[1]}"
        start = time.monotonic()
        with (
            pytest.raises(ConfigError, match=f"{address}.*cannot be reached"),
            connect_ray(address),
        ):
            pass
    assert time.monotonic() - start < 30


@pytest.mark.slow  # imports Ray
@pytest.mark.parametrize("address", ["no address", "nowhere.invalid:6379", "1:2:3", "a\nb"])
def test_an_impossible_address_is_refused(address: str) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match="cannot be reached") as caught, connect_ray(address):
        pass
    assert "\n" not in str(caught.value)
