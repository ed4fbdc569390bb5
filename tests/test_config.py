"""Settings: validation and its messages, strict parsing, round trips, and old spellings."""

import copy
import dataclasses
import inspect
import json
import math
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cutline.config import (
    PRESETS,
    CaptionConfig,
    Columns,
    DataConfig,
    DataSource,
    DistributedConfig,
    EvalConfig,
    GenerationConfig,
    GenerationKwargs,
    ImageConfig,
    InferenceConfig,
    InitConfig,
    LoraConfig,
    MemoryConfig,
    MetricConfig,
    ModelSettings,
    OptimConfig,
    Recipe,
    TextConfig,
    TextSettings,
    VisionConfig,
    VisionSettings,
    from_dict,
    read_recipe,
    reject_renamed_keywords,
    to_dict,
)
from cutline.config.renames import RENAMED, reject_renamed_flags
from cutline.errors import ConfigError, CutlineError
from cutline.messages import format_value

Kind = type[Any]
KINDS: list[Kind] = [VisionConfig, TextConfig, ImageConfig, CaptionConfig, GenerationConfig]
KINDS += [InitConfig, DataConfig, OptimConfig, LoraConfig, MemoryConfig, DistributedConfig]
KINDS += [MetricConfig, InferenceConfig, ModelSettings, EvalConfig, Recipe]
SIZES = {
    VisionConfig: ["image_size", "patch_size", "embed_dim", "depth", "num_heads"],
    TextConfig: ["vocab_size", "embed_dim", "depth", "num_heads", "mlp_dim", "max_positions"],
}

REJECTED: list[tuple[Kind, dict[str, Any], str]] = [
    *(
        (kind, {name: wrong}, f"{name} must be at least 1, not {wrong}")
        for kind, names in SIZES.items()
        for name in names
        for wrong in (0, -16)
    ),
    (VisionConfig, {"image_size": 100}, "image_size 100 is not a multiple of patch_size 16"),
    (VisionConfig, {"num_heads": 7}, "embed_dim 768 is not a multiple of num_heads 7"),
    (VisionConfig, {"drop_path": 1.0}, "drop_path must be in [0, 1), not 1.0"),
    (VisionConfig, {"drop_path": -0.1}, "drop_path must be in [0, 1), not -0.1"),
    (TextConfig, {"num_heads": 7}, "embed_dim 768 is not a multiple of num_heads 7"),
    (TextConfig, {"dropout": 1.0}, "dropout must be in [0, 1), not 1.0"),
    (TextConfig, {"dropout": -0.1}, "dropout must be in [0, 1), not -0.1"),
    (TextConfig, {"attn_dropout": 1.0}, "attn_dropout must be in [0, 1), not 1.0"),
    (TextConfig, {"attn_dropout": -0.1}, "attn_dropout must be in [0, 1), not -0.1"),
    (
        ImageConfig,
        {"std": (1.0, 0.0, 1.0)},
        "std must be between 1e-06 and 1e+06 for each",
    ),
    (CaptionConfig, {"label_smoothing": 1.0}, "label_smoothing must be in [0, 1), not 1.0"),
    (CaptionConfig, {"label_smoothing": -0.1}, "label_smoothing must be in [0, 1), not -0.1"),
    (GenerationConfig, {"num_beams": 0}, "num_beams must be at least 1, not 0"),
    (GenerationConfig, {"num_captions": 0}, "num_captions must be at least 1, not 0"),
    (
        GenerationConfig,
        {"num_beams": 10**400},
        "num_beams must be a number of at most 64",
    ),
    (GenerationConfig, {"max_length": 0, "min_length": 0}, "max_length must be at least 1, not 0"),
    (GenerationConfig, {"min_length": -1}, "min_length must be at least 0, not -1"),
    (GenerationConfig, {"min_length": 21}, "min_length 21 is above max_length 20"),
    *(
        (GenerationConfig, {name: value}, f"{name} must be between {low} and {high}, not {value}")
        for name, low, high, values in (
            ("repetition_penalty", 0.001, 1000, (0.0, -1.0, 0.0009, 1001.0, 1e300)),
            ("temperature", 0.0001, 10000, (0.0, -1.0, 1e-38, 10001)),
            ("length_penalty", -10, 10, (10.1, -10.1, 1e300)),
        )
        for value in values
    ),
    (GenerationConfig, {"top_p": 0.0}, "top_p must be in (0, 1], not 0.0"),
    (GenerationConfig, {"top_p": 1.1}, "top_p must be in (0, 1], not 1.1"),
    (GenerationConfig, {"top_k": -1}, "top_k must be at least 0, not -1"),
    (
        GenerationConfig,
        {"no_repeat_ngram_size": -1},
        "no_repeat_ngram_size must be at least 0, not -1",
    ),
    (GenerationConfig, {"num_captions": 4}, "num_captions 4 is above num_beams 3"),
    (GenerationConfig, {"bad_words": "dog"}, "bad_words must be a list, not 'dog'"),
    (GenerationConfig, {"bad_words": ["dog", 5]}, "bad_words[1] must be a string, not 5"),
    (GenerationConfig, {"bad_words": ["dog", ""]}, "bad_words[1] is empty: remove it"),
    (GenerationConfig, {"bad_words": [" \n"]}, "bad_words[0] is empty: remove it"),
    (DataConfig, {"val_fraction": 1.0}, "val_fraction must be in [0, 1), not 1.0"),
    (DataConfig, {"val_fraction": -0.1}, "val_fraction must be in [0, 1), not -0.1"),
    (
        DataConfig,
        {"group_pattern": "(a"},
        "group_pattern '(a' is not a regular expression (missing ), unterminated subpattern at "
        "position 0): correct it",
    ),
    *(
        (
            DataConfig,
            {"group_pattern": pattern},
            f"group_pattern {pattern!r} repeats a group in parentheses, which can take forever: "
            "repeat single characters, such as [a-z_]+",
        )
        for pattern in ("(a+)+b", "(?:a|ab)*c", "(a*){9}", "(?x)(a+) +b", r"(a+\\)+")
    ),
    *(
        (
            DataConfig,
            {"group_pattern": pattern},
            f"group_pattern {format_value(pattern)} has more than 3 of * + ? {{}}, "
            "which can take forever: match only the part of the name that tells groups apart",
        )
        for pattern in (".*.*.*.*b", r"\\*" * 4, "a?" * 40 + "a" * 40, r"a+b*?(\w{2,})(\d+)")
    ),
    (
        DataConfig,
        {"group_column": "a", "group_pattern": "b"},
        "`data.group_column` and `data.group_pattern` are both given: remove one of them",
    ),
    *(
        (
            DataConfig,
            {name: value, **other},
            "`data.group_column`, `data.group_pattern` and `data.val_selection` say which training "
            "images to hold out: remove them, or remove `data.val` and set `data.val_fraction` "
            "above 0",
        )
        for name, value in (
            ("group_column", "a"),
            ("group_pattern", "a"),
            ("val_selection", "blocks"),
        )
        for other in ({"val": "v"}, {"val_split": "v"}, {"val_fraction": 0.0})
    ),
    (DataConfig, {"max_words": 0}, "max_words must be at least 1, not 0"),
    (DataConfig, {"max_tokens": 2}, "max_tokens must be at least 3, not 2"),
    (
        DataConfig,
        {"captions_per_image": -1},
        "captions_per_image must be at least 0, not -1",
    ),
    (
        DataConfig,
        {"crop_scale": (0.0, 1.0)},
        "crop_scale must be (low, high) with 0 < low <= high <= 1, not (0.0, 1.0)",
    ),
    (
        DataConfig,
        {"crop_scale": (0.5, 1.1)},
        "crop_scale must be (low, high) with 0 < low <= high <= 1, not (0.5, 1.1)",
    ),
    (
        DataConfig,
        {"crop_scale": (0.6, 0.5)},
        "crop_scale must be (low, high) with 0 < low <= high <= 1, not (0.6, 0.5)",
    ),
    (DataConfig, {"num_workers": -1}, "num_workers must be at least 0, not -1"),
    *(
        (OptimConfig, {name: 0}, f"{name} must be at least 1, not 0")
        for name in ("batch_size", "grad_accum_steps", "epochs")
    ),
    *(
        (OptimConfig, {name: -1}, f"{name} must be at least 0, not -1")
        for name in ("max_steps", "warmup_steps")
    ),
    *(
        (OptimConfig, {name: -0.1}, f"{name} must be at least 0, not -0.1")
        for name in ("weight_decay", "clip_norm", "min_lr")
    ),
    (OptimConfig, {"lr": 0.0}, "lr must be positive, not 0.0"),
    (OptimConfig, {"ema_decay": 1.0}, "ema_decay must be in [0, 1), not 1.0"),
    (OptimConfig, {"ema_decay": -0.1}, "ema_decay must be in [0, 1), not -0.1"),
    (MemoryConfig, {"vit_ckpt_layer": -1}, "vit_ckpt_layer must be at least 0, not -1"),
    (
        MemoryConfig,
        {"vit_grad_ckpt": True},
        "`memory.vit_grad_ckpt` is on but `memory.vit_ckpt_layer` is 0",
    ),
    (LoraConfig, {"rank": -1}, "rank must be at least 0, not -1"),
    (LoraConfig, {"targets": ()}, "targets is empty"),
    (InferenceConfig, {"batch_size": 0}, "batch_size must be at least 1, not 0"),
    (InferenceConfig, {"num_workers": -1}, "num_workers must be at least 0, not -1"),
    (MetricConfig, {"resamples": -1}, "resamples must be at least 0, not -1"),
    (TextSettings, {"dropout": 1.0}, "dropout must be in [0, 1), not 1.0"),
    (VisionSettings, {"drop_path": -0.1}, "drop_path must be in [0, 1), not -0.1"),
    (ModelSettings, {"label_smoothing": 1.0}, "label_smoothing must be in [0, 1), not 1.0"),
    (DataConfig, {"stream": True}, "`data.stream` and `data.samples_per_epoch` go together"),
    (
        InitConfig,
        {"captioner": "a", "vision": "v"},
        "`init.captioner` already brings vision and text weights",
    ),
    (
        InitConfig,
        {"captioner": "a", "text": "t"},
        "`init.captioner` already brings vision and text weights",
    ),
    (InitConfig, {"config": "base"}, "`init.config` needs `init.captioner`"),
    (InitConfig, {"image_size": 224}, "`init.image_size` needs `init.captioner`"),
    *(
        (EvalConfig, {name: 0}, f"{name} must be at least 1, not 0")
        for name in ("every_epochs", "batch_size")
    ),
    (Recipe, {"log_every": 0}, "log_every must be at least 1, not 0"),
    *(
        (
            Recipe,
            {"model": model, "init": InitConfig(captioner="a")},
            "`model` and `init.captioner` both set sizes",
        )
        for model in (
            ModelSettings.from_config(PRESETS["tiny"]),
            ModelSettings(text=TextSettings(depth=3)),
            ModelSettings(image=ImageConfig(std=(0.5, 0.5, 0.5))),
        )
    ),
]
ACCEPTED: list[tuple[Kind, dict[str, Any]]] = [
    (
        VisionConfig,
        {
            "image_size": 1,
            "patch_size": 1,
            "embed_dim": 1,
            "depth": 1,
            "num_heads": 1,
            "drop_path": 0.99,
        },
    ),
    (TextConfig, dict.fromkeys(SIZES[TextConfig], 1) | {"dropout": 0.99, "attn_dropout": 0.99}),
    (TextConfig, {"dropout": 0.0, "attn_dropout": 0.0}),
    (CaptionConfig, {"label_smoothing": 0.0}),
    (
        GenerationConfig,
        {
            "num_beams": 1,
            "max_length": 1,
            "min_length": 1,
            "top_k": 0,
            "top_p": 1.0,
            "length_penalty": -1.0,
        },
    ),
    (
        GenerationConfig,
        {
            "num_beams": 4,
            "num_captions": 4,
            "min_length": 0,
            "no_repeat_ngram_size": 0,
            "repetition_penalty": 0.5,
        },
    ),
    (
        GenerationConfig,
        {"num_beams": 1, "num_captions": 4, "sample": True, "temperature": 0.01, "top_p": 0.01},
    ),
    (
        DataConfig,
        {
            "val_fraction": 0.0,
            "max_words": 1,
            "max_tokens": 3,
            "crop_scale": (1.0, 1.0),
            "num_workers": 0,
        },
    ),
    (
        OptimConfig,
        {
            "batch_size": 1,
            "grad_accum_steps": 1,
            "epochs": 1,
            "weight_decay": 0.0,
        },
    ),
    (MemoryConfig, {"vit_grad_ckpt": True, "vit_ckpt_layer": 1}),
    (
        Recipe,
        {
            "model": ModelSettings(
                prompt="",
                label_smoothing=0.0,
                vision=VisionSettings(drop_path=0.1),
                text=TextSettings(dropout=0.0, attn_dropout=0.2),
            ),
            "init": InitConfig(captioner="a"),
        },
    ),
    (EvalConfig, {"every_epochs": 1, "start_epoch": 1, "batch_size": 1}),
    (Recipe, {"log_every": 1, "init": InitConfig(captioner="a", config="base", image_size=224)}),
    (
        Recipe,
        {
            "model": ModelSettings.from_config(PRESETS["tiny"]),
            "init": InitConfig(vision="v", text="t"),
        },
    ),
]


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    REJECTED,
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_invalid_settings_are_rejected(kind: Kind, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        kind(**values)
    assert message in str(error.value)
    assert isinstance(error.value, CutlineError)
    with pytest.raises(ConfigError) as error:
        from_dict(
            kind,
            {
                name: to_dict(value) if dataclasses.is_dataclass(value) else value
                for name, value in values.items()
            },
            "a.yaml",
        )
    assert str(error.value).startswith("a.yaml: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("kind", "values"), ACCEPTED, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_boundary_values_are_accepted(kind: Kind, values: dict[str, Any]) -> None:
    config = kind(**values)
    assert {name: getattr(config, name) for name in values} == values
    assert from_dict(kind, to_dict(config)) == config


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_frozen_and_round_trip(kind: Kind) -> None:
    config = kind()
    field = dataclasses.fields(kind)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, field, getattr(config, field))
    assert from_dict(kind, {}) == config
    assert from_dict(kind, json.loads(json.dumps(to_dict(config)))) == config


UNUSUAL = Recipe(
    output="a",
    seed=7,
    precision="bf16",
    device="cpu",
    log_every=3,
    save_minutes=0.5,
    model=replace(ModelSettings.from_config(PRESETS["tiny"]), prompt="", label_smoothing=0.2),
    init=InitConfig(vision="v", vocab_size=99),
    data=DataConfig(train="t", clean="none", crop_scale=(0.25, 0.75), captions_per_image=2),
    optim=OptimConfig(lr=3e-4, betas=(0.8, 0.95), schedule="constant"),
    eval=EvalConfig(select_by="loss"),
    generation=GenerationConfig(
        num_beams=7, beam_scoring="huggingface", bad_words=("dog", "hot dog")
    ),
)


@pytest.mark.parametrize(
    "config", [UNUSUAL, *PRESETS.values()], ids=lambda config: type(config).__name__
)
def test_round_trip_through_json_and_yaml(config: Any) -> None:
    plain = to_dict(config)
    assert json.loads(json.dumps(plain)) == plain  # no tuples
    assert from_dict(type(config), json.loads(json.dumps(plain))) == config
    assert from_dict(type(config), yaml.safe_load(yaml.safe_dump(plain))) == config


SEEDS = st.integers(-(2**63), 2**64 - 1)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.fixed_dictionaries(
        {},
        optional={"num_beams": st.integers(1, 9), "seed": SEEDS, "sample": st.booleans()},
    )
)
def test_missing_keys_keep_their_defaults(values: dict[str, Any]) -> None:
    config = from_dict(Recipe, {"generation": values})
    assert config == Recipe(generation=GenerationConfig(**values))
    assert from_dict(Recipe, to_dict(config)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optm": {}}, "a.yaml: unknown setting `optm`; did you mean `optim`?"),
        (
            {"optim": {"learning_rte": 1}},
            "a.yaml: unknown setting `optim.learning_rte`; the settings of `optim` are optimizer",
        ),
        ({"optim": {"epoch": 1}}, "unknown setting `optim.epoch`; did you mean `optim.epochs`?"),
        (
            {"model": {"vision": {"image_sise": 1}}},
            "unknown setting `model.vision.image_sise`; did you mean `model.vision.image_size`?",
        ),
        ({5: 1}, "unknown setting `5`; the settings are task, output, "),
        ({"optim": {"epochs": "many"}}, "optim.epochs"),
        ({"optim": {"epochs": 1.5}}, "optim.epochs"),
        ({"optim": {"epochs": True}}, "optim.epochs"),
        ({"data": {"flip": 1}}, "data.flip"),
        ({"data": {"train": 5}}, "data.train"),
        ({"data": {"crop_scale": [0.5]}}, "data.crop_scale"),
        ({"optim": {"schedule": "linear"}}, "optim.schedule"),
        ({"optim": None}, "optim"),
        ({"optim": [1]}, "optim"),
        ({"model": {"text": {"vocab_size": None}}}, "model.text.vocab_size"),
    ],
    ids=str,
)
def test_reading_is_strict(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_dict(Recipe, values, "a.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("a.yaml: ")
    with pytest.raises(ConfigError) as error:
        from_dict(Recipe, values)
    assert not str(error.value).startswith(":")


def test_an_integer_is_accepted_for_a_float() -> None:
    assert from_dict(OptimConfig, {"weight_decay": 0}).weight_decay == 0.0


def test_a_recipe_is_read(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "output: été\ndata: {train: photos.jsonl, crop_scale: [0.2, 1.0]}\noptim:\n  lr: 0.0001\n",
        encoding="utf-8",
    )
    expected = Recipe(
        output="été",
        data=DataConfig(train="photos.jsonl", crop_scale=(0.2, 1.0)),
        optim=OptimConfig(lr=1e-4),
    )
    assert read_recipe(file) == read_recipe(str(file)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"optim: {epochs: 0}", "epochs must be at least 1, not 0"),
        (b"optim: {epoch: 2}", "unknown setting `optim.epoch`; did you mean `optim.epochs`?"),
        (b"optim: [", "not a YAML file"),
        (b"a: b: c", "not a YAML file"),
        (b"output: \xff\xfe", "not a YAML file"),
        (b"output: \x00", "not a YAML file"),
        (b"- a\n- b\n", "a recipe is a YAML mapping"),
        (b"", "a recipe is a YAML mapping"),
        (None, "the recipe cannot be read (No such file or directory)"),
    ],
    ids=str,
)
def test_an_unusable_recipe_raises_one_line_that_names_it(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    file = tmp_path / "recipe.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_recipe(file)
    assert str(error.value).startswith(f"{file}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="the recipe cannot be read"):
        read_recipe(tmp_path)  # a folder


def test_presets() -> None:
    base, large = CaptionConfig.preset("base"), CaptionConfig.preset("large")
    assert base == CaptionConfig()
    assert base.vision.num_tokens == 24 * 24 + 1
    assert (
        base.vision.embed_dim,
        base.vision.depth,
        base.vision.num_heads,
        base.vision.drop_path,
    ) == (768, 12, 12, 0.0)
    assert (
        large.vision.embed_dim,
        large.vision.depth,
        large.vision.num_heads,
        large.vision.drop_path,
    ) == (1024, 24, 16, 0.1)
    assert large.text == base.text == TextConfig(30524, 768, 12, 12, 3072, 512, 0.1, 0.1, 1e-12)
    with pytest.raises(ConfigError, match="unknown preset 'huge'; use one of tiny, base, large"):
        CaptionConfig.preset("huge")


@pytest.mark.parametrize(
    ("kind", "name", "description", "values"),
    [
        (GenerationConfig, "num_beams", "an integer", (2.5, 2.0, "3", True, None, np.float64(3))),
        (GenerationConfig, "max_length", "an integer", (12.5, math.nan, "12")),
        (GenerationConfig, "min_length", "an integer", (1.5,)),
        (GenerationConfig, "no_repeat_ngram_size", "an integer", (1.5, False)),
        (GenerationConfig, "top_k", "an integer", (3.7,)),
        (GenerationConfig, "seed", "an integer", (None, 1.5, "1", True)),
        (GenerationConfig, "num_captions", "an integer", ("3",)),
        (GenerationConfig, "sample", "True or False", (1.0, 1, "yes", None)),
        (GenerationConfig, "temperature", "a number", ("1", True, None, 1j)),
        (GenerationConfig, "repetition_penalty", "a number", ("1",)),
        (GenerationConfig, "length_penalty", "a number", ([1.0],)),
        (GenerationConfig, "top_p", "a number", ("1",)),
        (InferenceConfig, "batch_size", "an integer", (2.5, "8", True)),
        (InferenceConfig, "num_workers", "an integer", (0.5, None)),
        (InferenceConfig, "device", "a string", (None, 0)),
    ],
    ids=str,
)
def test_values_of_another_type_are_rejected(
    kind: Kind, name: str, description: str, values: tuple[Any, ...]
) -> None:
    for value in values:
        with pytest.raises(ConfigError) as error:
            kind(**{name: value})
        assert str(error.value) == f"{name} must be {description}, not {value!r}"
        with pytest.raises(ConfigError):
            from_dict(kind, {name: value})


def test_numbers_of_numpy_become_those_of_python() -> None:
    config = GenerationConfig(
        num_beams=np.int64(4), seed=np.uint8(7), temperature=np.float32(0.5), top_p=np.int32(1)
    )
    assert config == GenerationConfig(num_beams=4, seed=7, temperature=0.5, top_p=1)
    assert json.loads(json.dumps(to_dict(config)))["seed"] == 7
    assert type(config.num_beams) is type(config.seed) is int
    assert type(InferenceConfig(batch_size=np.int16(2)).batch_size) is int


def test_a_field_that_may_be_none_is_checked_otherwise() -> None:
    assert VisionSettings(drop_path=None) == VisionSettings()
    with pytest.raises(ConfigError, match=r"drop_path must be a number, not '0.1'"):
        VisionSettings(drop_path="0.1")


def test_an_unknown_setting_of_generation_names_the_nearest() -> None:
    with pytest.raises(ConfigError) as error:
        GenerationConfig(num_beem=3)
    assert str(error.value) == "unknown argument `num_beem`: did you mean `num_beams`?"
    with pytest.raises(ConfigError, match="unknown argument `x`; the arguments are num_beams, max"):
        GenerationConfig(x=3)


def test_generation_settings_can_be_copied() -> None:
    config = GenerationConfig(5, seed=3, min_length=0)
    assert copy.copy(config) == copy.deepcopy(config) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert replace(config, seed=4) == GenerationConfig(num_beams=5, seed=4, min_length=0)
    with pytest.raises(ConfigError, match="did you mean `seed`"):
        replace(config, sed=4)


def test_keyword_arguments_match_the_fields() -> None:
    assert get_type_hints(GenerationKwargs) == get_type_hints(GenerationConfig)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (GenerationConfig, {"beam_scoring": "hf"}),
        (DataConfig, {"clean": "lower"}),
        (OptimConfig, {"schedule": "linear"}),
        (EvalConfig, {"select_by": "cider"}),
        (Recipe, {"precision": "fp16"}),
    ],
)
def test_unknown_choices_are_rejected(kind: type, values: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="is not one of"):
        kind(**values)


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "1.0e-5", "0.00001", "+1e-5"])
def test_exponents_in_recipes_are_numbers(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.yaml").write_text(f"optim: {{lr: {text}}}")
    assert read_recipe(tmp_path / "r.yaml").optim.lr == 1e-5


def test_model_settings_override_only_what_is_set() -> None:
    captioner = replace(
        PRESETS["tiny"],
        prompt="an aerial photo of ",
        label_smoothing=0.0,
        text=replace(PRESETS["tiny"].text, dropout=0.0, attn_dropout=0.0),
    )
    assert ModelSettings().override(captioner) == captioner
    settings = ModelSettings(label_smoothing=0.1, text=TextSettings(dropout=0.2))
    config = settings.override(captioner)
    assert config == replace(
        captioner, label_smoothing=0.1, text=replace(captioner.text, dropout=0.2)
    )


def test_model_settings_give_new_models_the_reference_values() -> None:
    assert ModelSettings().to_config() == CaptionConfig()
    for config in PRESETS.values():
        assert ModelSettings.from_config(config).to_config() == config


@pytest.mark.parametrize(
    "pattern", [r"ucm_(\d+)_", r"^(?:scene)(\d+)?/", r"\(\d+\)+_[a-z)]", r"(.+)_(.+)_\d+"]
)
def test_simple_group_patterns_are_accepted(pattern: str) -> None:
    assert DataConfig(group_pattern=pattern).group_pattern == pattern


def test_data_config_is_one_home_for_columns_and_sources() -> None:
    data = DataConfig(train="t", train_split="train", val_split="val", image_column="photo")
    assert data.columns == Columns(image_column="photo")
    assert data.train_source == DataSource("t", split="train", columns=data.columns)
    assert data.val_source == DataSource("t", split="val", columns=data.columns)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_old_recipe_keys_name_the_new_ones(old: str, new: str) -> None:
    values: Any = {"x": 1} if old == "start" else 1
    for key in reversed(old.split(".")):
        values = {key: values}
    if "." not in old and old != "start":
        pytest.skip("a flag and keyword argument, never a recipe key")
    if old.startswith("columns."):
        pytest.skip("a flag, never a recipe key")
    with pytest.raises(ConfigError, match=re.escape(f"the setting `{old}` is now `{new}`")):
        from_dict(Recipe, values)


@pytest.mark.parametrize("name", [name for name in RENAMED if "`" not in RENAMED[name]])
def test_new_spellings_exist(name: str) -> None:
    """Every new name in the table is an existing setting."""
    new = RENAMED[name]
    kinds: list[Any] = [Recipe, MetricConfig, InferenceConfig, Columns]
    arguments = {"train_captions", "output"}
    assert new in arguments or any(_has_field(kind, new) for kind in kinds)


def _has_field(kind: Any, path: str) -> bool:
    name, _, inner = path.partition(".")
    hints = get_type_hints(kind)
    return name in hints and (not inner or _has_field(hints[name], inner))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--workers", "2"], "--workers is now --num-workers"),
        (["--workers=2"], "--workers is now --num-workers"),
        (["--start.captioner", "x"], "--start.captioner is now --init.captioner"),
        (["--data.quarter-turns"], "--data.quarter-turns is now --data.rot90"),
        (["--optim.lora.rank", "4"], "--optim.lora.rank is now --lora.rank"),
        (["--engine", "plain"], "--engine plain is now --engine eager"),
        (["--engine=plain"], "--engine plain is now --engine eager"),
        (
            ["--optim.dropout", "0"],
            "--optim.dropout is now --model.text.dropout and --model.text.attn-dropout",
        ),
    ],
)
def test_old_flags_name_the_new_ones(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        reject_renamed_flags(["photos", *argv])
    assert str(error.value) == message


def test_old_and_unknown_keywords_are_rejected() -> None:
    reject_renamed_keywords(["seed"], ["seed"])
    with pytest.raises(ConfigError, match="the argument `workers` is now `num_workers`"):
        reject_renamed_keywords(["seed", "workers"], ["seed"])
    with pytest.raises(ConfigError, match="unknown argument `beams`; the arguments are seed"):
        reject_renamed_keywords(["beams"], ["seed"])
    with pytest.raises(ConfigError, match="unknown argument `sed`: did you mean `seed`"):
        reject_renamed_keywords(["sed"], ["seed"])


def test_old_values_name_the_new_ones() -> None:
    with pytest.raises(ConfigError, match="engine 'plain' is now 'eager'"):
        InferenceConfig(engine="plain")


def test_the_signature_of_generation_config_names_its_fields() -> None:
    names = [field.name for field in dataclasses.fields(GenerationConfig)]
    assert list(inspect.signature(GenerationConfig).parameters) == names
