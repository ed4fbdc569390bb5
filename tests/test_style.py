"""Conventions of the code that no linter checks."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "cutline"
# the public interface keeps its keyword arguments
MANY_PARAMETERS = {"evaluate", "load", "caption", "stream", "evaluate_command", "compare_command"}
SEARCHED = ("cutline", "tests", "benchmarks", "recipes", "docs", ".github")
# Old names may stand where they are mapped to the new ones.
EXEMPT = {"CHANGELOG.md", "cutline/config/renames.py", "tests/test_style.py"}
OLD_WORDS = (
    "rehearsal|rehearse|recital|recite|by heart|Arrivals|close_ranks|make_room|require_room|"
    "quarter_turns|val_share|epoch_rows|shuffle_rows|recompute_cheap|max_pictures|start_model|"
    "whole_file|remove_torn|FilePart|sum_over|is_first\\b|RunPrecision|StartConfig|StartReport|"
    "named and passed over|units for bf16|bf16 units|way out|for want of|quick at it|"
    "(?<!a )pictures?\\b(?! of )|[Pp]ictures|[Dd]ata[ _]sets?(?![a-z])|[Cc]olour|white space|"
    "[Gg]rey(?! plants)"
)
# what JSON output, log.jsonl and old settings call it
SERIALIZED = re.compile(r"num_pictures|pictures_per_second|a picture of|\"picture\"|max_pictures")


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield every function of the package, with its file."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield path.relative_to(REPOSITORY).as_posix(), node


def test_public_functions_have_names_of_their_own() -> None:
    files = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            if "overload" not in map(ast.unparse, node.decorator_list):
                files[node.name].append(path.relative_to(REPOSITORY).as_posix())
    assert {name: where for name, where in files.items() if len(where) > 1} == {}


def test_signatures_have_at_most_eight_parameters() -> None:
    long = {
        f"{path}: {node.name}": count
        for path, node in functions()
        if (count := len([*node.args.args, *node.args.kwonlyargs])) > 8
        and node.name not in MANY_PARAMETERS
        and not (node.args.args and node.args.args[0].arg == "self" and count == 9)
    }
    assert long == {}


@pytest.mark.parametrize("folder", [*SEARCHED, "."])
def test_old_words_are_gone(folder: str) -> None:
    pattern = re.compile(OLD_WORDS)
    root = REPOSITORY / folder
    files = root.glob("*.md") if folder == "." else root.rglob("*")
    old_words = []
    for path in files:
        name = path.relative_to(REPOSITORY).as_posix()
        if path.suffix not in {".py", ".md", ".yaml", ".yml", ".toml"} or name in EXEMPT:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(SERIALIZED.sub("", line)):
                old_words.append(f"{name}:{number}: {line.strip()}")
    assert old_words == []
