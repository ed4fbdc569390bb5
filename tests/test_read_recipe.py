"""Recipes that are wrong, hostile, or written in ways that surprise."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from cutline.cli.main import run_command
from cutline.config import Recipe, from_dict, read_recipe
from cutline.errors import ConfigError


def billion_laughs(line: str) -> str:
    return "a0: &a0 {x: 1}\n" + "".join(
        f"a{n}: &a{n} {line.replace('A', f'*a{n - 1}')}\n" for n in range(1, 40)
    )


SYNTAX: dict[str, tuple[str, str]] = {
    "merge bomb": (
        billion_laughs("{<<: [A, A, A]}"),
        "line 8: more than 5000 keys",
    ),
    "merge bomb of keys": (
        billion_laughs("{<<: A, y: A}"),
        "line 10: more than 5000 keys",
    ),
    "billion laughs": (
        billion_laughs("[A, A, A, A]"),
        "line 7: more than 5000 keys",
    ),
    "brackets": ("optim: " + 3000 * "[" + 3000 * "]", "line 1: nested more than 20 times; remove"),
    "open brackets": ("optim: " + 3000 * "[", "line 1: nested more than 20 times; remove a level"),
    "braces": ("optim: " + 3000 * "{a: ", "line 1: nested more than 20 times; remove a level"),
    "dashes": ("optim:\n" + 3000 * "- " + "1", "line 2: nested more than 20 times"),
    "many keys": (
        "".join(f"a{n}: 1\n" for n in range(3000)),
        "line 2500: more than 5000",
    ),
    "recursion": ("optim: &a [*a]", "line 1: no &a comes before this alias; correct it"),
    "unknown alias": ("seed: 1\noptim: *a", "line 2: no &a comes before this alias; correct it"),
    "merge of a number": ("optim: {<<: 5}", "line 1: the key `<<` needs a mapping, or a list of"),
    "digits": ("seed: " + 5000 * "9", "line 1: a number of 5000 characters is too long; shorten"),
    "hexadecimal": ("seed: 0x" + 5000 * "f", "line 1: a number of 5002 characters is too long"),
    "digits of a float": ("optim: {lr: 0." + 5000 * "9" + "}", "line 1: a number of 5002"),
    "NUL": ("seed: 1\noutput: a\0b", "not a YAML file (line 2: the character '\\x00'"),
    "escaped NUL": ('output: "a\\0b"', "output must be text without NUL characters, not 'a\\x00b'"),
    "surrogate": ('output: "\\ud800"', "line 1: the text contains half of a surrogate pair"),
    "huge escape": ('output: "\\UFFFFFFFF"', "not a YAML file (a number or an escape such as"),
    "huge version": (f"%YAML {5000 * '9'}.1\n---\nseed: 1", "not a YAML file (a number or an"),
    "duplicate key": (
        "optim:\n  lr: 1\n  epochs: 2\n  lr: 2\n",
        "line 4: the key `lr` occurs twice, it is already in line 2; remove one",
    ),
    "duplicate section": ("optim: {}\nseed: 1\noptim: {}", "line 3: the key `optim` occurs twice"),
    "object": (
        "output: !!python/object/apply:os.system [touch x]",
        "line 1: the tag !!python/object/apply:os.system is not supported; remove",
    ),
    "set": ("optim: !!set {lr}", "line 1: the tag !!set is not supported"),
    "binary": ("output: !!binary aGk=", "line 1: the tag !!binary is not"),
    "two documents": ("seed: 1\n---\nseed: 2", "line 2: a second document begins; use one file"),
    "list as key": ("? [a]\n: 1", "line 1: a key is not the name of a setting; correct the key"),
    "number as key": ("5: 1", "unknown setting `5`; the settings are task, output, seed, "),
    "null as key": ("~: 1", "unknown setting `~`; the settings are task, output, seed, "),
    "long key": (f"? {5000 * 'x'}\n: 1", f"unknown setting `{60 * 'x'}…`; the settings are"),
    "set without values": ("optim: {lr}", "optim.lr must be a number, not None"),
    "unclosed": ("seed: 1\noptim: {lr: 1", "not a YAML file (line 2: while parsing a flow mapping"),
    "tab": ("optim:\n\tlr: 1", "not a YAML file (line 2: while scanning for the next token"),
    "too large": ("#" * 100_001, "larger than 100000 bytes, so it is not a recipe; check the path"),
    "empty section": (
        "optim:\nseed: 1",
        "optim must be a mapping of settings to values, but",
    ),
}

VALUES: dict[str, str] = {
    "seed: -1": "seed must be at least 0, not -1",
    "seed: 99999999999999999999": "seed must be a number of at most 64 bits, not 999999",
    "seed: 2020-01-01": "seed must be an integer, not '2020-01-01'",
    "seed: 010": "seed must be an integer, not '010'",
    "output: ''": "output is empty: name the run directory",
    "output: 2024": "output must be a string, not 2024; put it in quotes",
    "model: {prompt: no}": "model.prompt must be a string, not False; put it in quotes",
    "save_minutes: 1:30": "save_minutes must be a number, not '1:30'",
    "save_minutes: .inf": "save_minutes must be finite, not inf",
    "save_minutes: -1": "save_minutes must be at least 0, not -1",
    "device: meta": "device 'meta' is not one of auto, cpu, cuda, cuda:N, mps",
    "device: xla": "device 'xla' is not one of auto, cpu, cuda, cuda:N, mps",
    "tensorboard: 5": "tensorboard 5 is not one of auto, on, off",
    "precision: fp16": "precision 'fp16' is not one of auto, fp32, bf16",
    "log_every: 1.5": "log_every must be an integer, not 1.5",
    "optim: {batch_size: 0}": "optim.batch_size must be at least 1, not 0",
    "optim: {batch_size: 1000000000}": "optim.batch_size must be at most 1000000, not 1000000000",
    "eval: {batch_size: 0}": "eval.batch_size must be at least 1, not 0",
    "optim: {lr: .nan}": "optim.lr must be finite, not nan",
    "optim: {lr: 1e400}": "optim.lr must be finite, not inf",
    "optim: {min_lr: .inf}": "optim.min_lr must be finite, not inf",
    "optim: {clip_norm: -.inf}": "optim.clip_norm must be finite, not -inf",
    "optim: {betas: [0.9, 1.0]}": "optim.betas must both be in [0, 1), not (0.9, 1.0)",
    "optim: {betas: [-0.1, 0.9]}": "optim.betas must both be in [0, 1), not (-0.1, 0.9)",
    "optim: {betas: [.nan, 0.9]}": "optim.betas[0] must be finite, not nan",
    "optim: {betas: [0.9]}": "optim.betas must be a list of 2 values, not [0.9]",
    "optim: {schedule: linear}": "optim.schedule 'linear' is not one of cosine, cosine_epoch",
    "optim: {epochs: many}": "optim.epochs must be an integer, not 'many'",
    "optim: {freeze: vision.*}": "optim.freeze must be a list, not 'vision.*'",
    "optim: {freeze: [1]}": "optim.freeze[0] must be a string, not 1",
    "optim: 5": "optim must be a mapping of settings to values, but it is 5",
    "lora: {alpha: .inf}": "lora.alpha must be finite, not inf",
    "lora: {rank: 1000000000}": "lora.rank must be at most 16384, not 1000000000",
    "data: {captions_per_image: 1000000}": "data.captions_per_image must be at most 1000, not 100",
    "data: {num_workers: 1000000}": "data.num_workers must be at most 1024, not 1000000",
    "data: {crop_scale: [.nan, 1]}": "data.crop_scale[0] must be finite, not nan",
    "data: {flip: maybe}": "data.flip must be True or False, not 'maybe'",
    "generation: {length_penalty: .nan}": "generation.length_penalty must be finite, not nan",
    "init: {image_size: -16}": "init.image_size must be at least 0, not -16",
    "init: {vocab_size: 0}": "init.vocab_size must be at least 1, not 0",
    "model: {image: {std: [1, 1, .inf]}}": "model.image.std[2] must be finite, not inf",
    "model: {image: {mean: [1, .nan, 1]}}": "model.image.mean[1] must be finite, not nan",
    "model: {vision: {mlp_ratio: .inf}}": "model.vision.mlp_ratio must be finite, not inf",
    "model: {vision: {mlp_ratio: 1e-9}}": "model.vision.mlp_ratio 1e-09 times embed_dim 768 must",
    "model: {vision: {mlp_ratio: 0}}": "model.vision.mlp_ratio must be in (0, 131072], not 0",
    "model: {vision: {layer_norm_eps: .nan}}": "model.vision.layer_norm_eps must be finite, not",
    "model: {text: {layer_norm_eps: 0}}": "model.text.layer_norm_eps must be in (0, 1.0], not 0",
    "model: {vision: {depth: 1000000000}}": "model.vision.depth must be at most 256, not 1000000",
    "model: {vision: {embed_dim: 1000000000}}": "model.vision.embed_dim must be at most 16384",
    "model: {vision: {image_size: 1000000}}": "model.vision.image_size must be at most 8192, not",
    "model: {text: {depth: 1000000000}}": "model.text.depth must be at most 256, not 1000000000",
    "model: {text: {vocab_size: 1000000000000}}": "model.text.vocab_size must be at most 4000000",
    "model: {text: {num_heads: 7}}": "model.text.embed_dim 768 is not a multiple of num_heads 7",
}
REJECTED = [*SYNTAX.values(), *VALUES.items()]


@pytest.mark.parametrize(("text", "message"), REJECTED, ids=[*SYNTAX, *VALUES])
def test_a_wrong_recipe_is_one_sentence(
    tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_recipe(file)
    assert str(error.value).startswith(f"{file}: {message}")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500 + len(str(file))
    for command in (["train", str(file)], ["check", str(tmp_path), "--recipe", str(file)]):
        assert run_command(command) == 2
        assert capsys.readouterr().err == f"cutline: {error.value}\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "r.yaml").write_text("output: é", encoding=encoding)
    with pytest.raises(ConfigError, match=r"r\.yaml: not a YAML file in UTF-8; save it"):
        read_recipe(tmp_path / "r.yaml")


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("output: é", encoding="utf-8-sig")
    assert read_recipe(tmp_path / "r.yaml") == Recipe(output="é")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_not_read(path: str) -> None:
    with pytest.raises(ConfigError, match=f"^{path}: the recipe cannot be read"):
        read_recipe(path)


def test_a_path_that_is_too_long_is_an_error() -> None:
    with pytest.raises(ConfigError, match="the recipe cannot be read \\(File name too long"):
        read_recipe(1000 * "a")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("tensorboard: off", {"tensorboard": "off"}),
        ("tensorboard: on", {"tensorboard": "on"}),
        ("tensorboard: auto", {"tensorboard": "auto"}),
        ("compile: yes", {"compile": True}),
        ("compile: Off", {"compile": False}),
        ("output: 2024-01-01", {"output": "2024-01-01"}),
        ("output: 010", {"output": "010"}),
        ("output: 1:30", {"output": "1:30"}),
        ("output: !!str 5", {"output": "5"}),
        ("seed: 1_000", {"seed": 1000}),
        ("seed: 0x10", {"seed": 16}),
        ("save_minutes: 0", {"save_minutes": 0}),
        ("save_minutes: .5", {"save_minutes": 0.5}),
        ("save_minutes: 2.5E+1", {"save_minutes": 25.0}),
        ("optim: &a {lr: 1, epochs: 2}\neval: {}", {"optim": {"lr": 1, "epochs": 2}}),
        (
            "model: {text: &a {depth: 1}, vision: *a}",
            {"model": {"text": {"depth": 1}, "vision": {"depth": 1}}},
        ),
        (
            "model: {text: &a {depth: 1, embed_dim: 24}, vision: {<<: *a, depth: 2}}",
            {
                "model": {
                    "text": {"depth": 1, "embed_dim": 24},
                    "vision": {"depth": 2, "embed_dim": 24},
                }
            },
        ),
    ],
)
def test_yaml_is_read_as_users_expect(tmp_path: Path, text: str, values: dict[str, Any]) -> None:
    (tmp_path / "r.yaml").write_text(text, encoding="utf-8")
    assert read_recipe(tmp_path / "r.yaml") == from_dict(Recipe, values)


@pytest.mark.parametrize("word", ["no", "on", "010", "089", "1:30", "~", "0x1", ".5", "1_0", "é"])
def test_what_pyyaml_writes_is_read_back(tmp_path: Path, word: str) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"output": word}), encoding="utf-8")
    assert read_recipe(tmp_path / "r.yaml").output == word


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--optim.batch-size", "0"], "optim.batch_size must be at least 1, not 0"),
        (["--eval.batch-size", "0"], "eval.batch_size must be at least 1, not 0"),
        (["--model.vision.depth", "1000000000"], "model.vision.depth must be at most 256, not 10"),
        (["--model.image.std", "1", "nan", "1"], "model.image.std[1] must be finite, not nan"),
        (["--device", "meta"], "device 'meta' is not one of auto, cpu, cuda, cuda:N, mps"),
        (["--lr-range", "nan", "1"], "lr_range[0] must be finite, not nan"),
    ],
)
def test_flags_of_train_name_the_section(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    (tmp_path / "r.yaml").write_text("{}")
    assert run_command(["train", str(tmp_path / "r.yaml"), *flags]) == 2
    assert capsys.readouterr().err.startswith(f"cutline: {message}")
