"""Mutated recipes: each is read, or is one sentence, without much time or memory."""

import dataclasses
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from fuzz_process import Limits, check_cases

from cutline.cli.main import run_command
from cutline.config import Recipe, from_dict, read_recipe, to_dict
from cutline.device import pick_device
from cutline.training.setup import require_memory

LIMITS = Limits(memory=100_000_000, seconds=20)
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
TOKENS = (
    *("-1", "0", "1", "10000000000", "1" * 5000, "1e400", "1e-400", "-0.0", "0x" + "f" * 30),
    *(".inf", "-.inf", ".nan", "010", "1:30", "1_0", "2024-01-01", "2024-01-01 10:00:00"),
    *(
        "~",
        "",
        "yes",
        "off",
        "''",
        "'\\0'",
        '"\\0"',
        '"\\ud800"',
        '"\\UFFFFFFFF"',
        "é",
        "\0",
        "\x1b",
    ),
    *("[]", "{}", "[1, 2]", "[.nan, .nan]", "{a: 1}", "{1, 2}", "[" * 3000, "{a: " * 3000),
    *(
        "&a [*a]",
        "*a",
        "!!python/object/apply:os.getcwd []",
        "!!binary aGk=",
        "!!set {a}",
        "!!int x",
    ),
    *("|", ">-", "%", "@", "`", "meta", "cuda:300", "x" * 3000, "../" * 500, "- a", "? b", "<<: 1"),
)
"""what may stand in a recipe for a value"""
CHARACTERS = "\0\t\n\r\x85\ufeff:-?[]{},#&*!|>'\"%@` \U0001f600"
"""characters with a meaning in YAML, or none"""


def list_settings(settings: Any = Recipe, path: str = "") -> Iterator[str]:
    """Yield the dotted name of every setting of a recipe."""
    for name, hint in get_type_hints(settings).items():
        if dataclasses.is_dataclass(hint):
            yield from list_settings(hint, f"{path}{name}.")
        else:
            yield f"{path}{name}"


SETTINGS = list(list_settings())


def replace_value(text: str, rng: random.Random) -> str:
    match = rng.choice(list(re.finditer(r"(?<=: )[^,{}\n]+", text)) or [re.search("$", text)])
    return text[: match.start()] + rng.choice(TOKENS) + text[match.end() :]


def replace_key(text: str, rng: random.Random) -> str:
    match = rng.choice(list(re.finditer(r"\w+(?=:)", text)) or [re.search("$", text)])
    key = rng.choice([*TOKENS, *SETTINGS[-1].split("."), "lr", "model", "<<"])
    return text[: match.start()] + key + text[match.end() :]


def repeat_line(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    place = rng.randrange(len(lines) + 1)
    times = rng.choice((1, 2, 1000))
    return "".join([*lines[:place], *[rng.choice(lines or [""])] * times, *lines[place:]])


def insert_character(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + rng.choice(CHARACTERS) + text[place:]


def delete_slice(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) + 1)
    return text[:place] + text[place + rng.randrange(1, 40) :]


def nest(text: str, rng: random.Random) -> str:
    indented = "".join(f"  {line}" for line in text.splitlines(keepends=True))
    return f"{rng.choice(['optim', 'x', '? ', '- &a', '&a x'])}:\n{indented}"


def append_bomb(text: str, rng: random.Random) -> str:
    line = rng.choice(("[*A, *A, *A]", "{<<: [*A, *A]}", "{<<: *A, y: *A}", "{x: *A, y: *A}"))
    levels = (f"a{n}: &a{n} {line.replace('A', f'a{n - 1}')}\n" for n in range(1, 50))
    return f"{text}\na0: &a0 {{x: 1}}\n{''.join(levels)}"


def set_values(text: str, rng: random.Random) -> str:
    """Return a recipe of a few settings with hostile values."""
    names = {name.partition(".")[0]: name for name in rng.sample(SETTINGS, 3)}
    words = [(name.split("."), rng.choice(TOKENS)) for name in names.values()]
    return "".join(
        "".join(f"{2 * depth * ' '}{key}:\n" for depth, key in enumerate(keys))[:-1] + f" {token}\n"
        for keys, token in words
    )


MUTATIONS: tuple[Callable[[str, random.Random], str], ...] = (
    *(replace_value, replace_value, replace_key, repeat_line, insert_character, delete_slice),
    *(nest, append_bomb, set_values, set_values, set_values),
)


def write_recipe(seed: int, file: Path) -> None:
    rng = random.Random(seed)
    text = rng.choice(RECIPES).read_text(encoding="utf-8")
    for _ in range(rng.choice((1, 1, 2, 3))):
        text = rng.choice(MUTATIONS)(text, rng)
    content = bytearray(text.encode("utf-8" if rng.random() < 0.97 else "utf-16"))
    if content and rng.random() < 0.05:
        content[rng.randrange(len(content))] = rng.randrange(256)
    file.write_bytes(content)


def run_case(seed: int, folder: Path) -> None:
    file = folder / "recipe.yaml"
    write_recipe(seed, file)
    if seed % 10 == 0:
        command = ("train",) if seed % 20 else ("check", "--recipe")
        assert run_command([*command, str(file), "--help"]) in (0, 2)
    recipe = read_recipe(file)
    plain = to_dict(recipe)
    assert from_dict(Recipe, plain) == recipe
    file.write_text(yaml.safe_dump(plain, allow_unicode=True), encoding="utf-8")
    assert read_recipe(file) == recipe
    require_memory(recipe.model.to_config())
    pick_device(recipe.device)


def test_some_mutated_recipes() -> None:
    outcomes = check_cases(__file__, range(30), LIMITS)
    assert any(outcome.message for outcome in outcomes)
    assert any(not outcome.message for outcome in outcomes)


@pytest.mark.slow
def test_mutated_recipes() -> None:
    check_cases(__file__, range(200), LIMITS)
