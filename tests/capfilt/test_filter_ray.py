"""`cutline capfilt --cluster ray`: the same selection on a real Ray."""

import sys
from pathlib import Path

import pytest
from filter_data import SOURCES, Run, Texts, read_table

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="as the tests of bulk captioning on Ray"),
]


@pytest.mark.parametrize("command", ["filter", "capfilt"])
def test_a_cluster_keeps_what_this_machine_keeps(
    command: str, scenes: list[Path], texts: Texts, run: Run, tmp_path: Path
) -> None:
    words = SOURCES["jsonl"](tmp_path, scenes, texts)
    words += ["--threshold", "0.9", "--dropped"]
    found = []
    for name, flags in (("here", []), ("ray", ["--cluster", "ray", "--ray-actors", "2"])):
        out, dropped = tmp_path / f"{name}.jsonl", tmp_path / f"{name}-dropped.jsonl"
        code, message = run(command, *words, dropped, "-o", out, *flags)
        assert code == 0, message
        rows = [*read_table(out), *read_table(dropped)]
        found.append([(row["id"], row["caption"], round(row["itm"], 3)) for row in rows])
    assert found[0] == found[1]
