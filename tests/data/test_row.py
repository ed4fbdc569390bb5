"""Columns of a row: image, captions, prompt and id."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cutline.config import Columns, DataConfig, Recipe
from cutline.data.row import parse_id, parse_row
from cutline.errors import ConfigError, DataError
from cutline.training.setup import read_samples


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "a photo of",
            "prompt_template 'a photo of' contains no column name: "
            "write names in braces, such as {style}",
        ),
        (
            "a {} of",
            "prompt_template 'a {} of' contains no column name: "
            "write names in braces, such as {style}",
        ),
        (
            "a {style of",
            "prompt_template 'a {style of' contains no column name: "
            "write names in braces, such as {style}",
        ),
        ("{a} {", "prompt_template '{a} {' has an unmatched brace: write columns as {style}"),
        ("{{a}}", "prompt_template '{{a}}' has an unmatched brace: write columns as {style}"),
    ],
)
def test_invalid_templates_are_refused(template: str, message: str) -> None:
    for make in (
        lambda: Columns(prompt_template=template),
        lambda: DataConfig(prompt_template=template),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert str(caught.value) == message


def test_prompt_column_and_template_exclude_each_other() -> None:
    with pytest.raises(
        ConfigError, match=r"prompt_template '\{b\}' and prompt_column are both given: remove one"
    ):
        DataConfig(prompt_column="a", prompt_template="{b}")


def test_the_columns_of_a_recipe_are_its_column_settings() -> None:
    data = DataConfig(image_column="i", caption_column="c", prompt_template="a {x y} of {z}, {z}")
    assert data.columns == Columns("i", "c", prompt_template="a {x y} of {z}, {z}")
    template = {"x y": "prompt_template", "z": "prompt_template"}
    assert data.columns.names == {"i": "image_column", "c": "caption_column", **template}
    assert DataConfig(prompt_column="p").columns == Columns(prompt_column="p")
    assert DataConfig().columns.names == {}


def test_placeholders_are_replaced_literally() -> None:
    row = {"image": "a", "x": r"{y} \1", "y": "no", "n": 1.5}
    assert parse_row(row, "", "here", Columns(prompt_template="{x} {n}")).prompt == r"{y} \1 1.5"


def test_a_missing_prompt_means_the_models_prompt() -> None:
    def prompt_of(row: dict[str, str | None]) -> str | None:
        return parse_row({"image": "a", **row}, "", "here", Columns(prompt_column="p")).prompt

    assert prompt_of({"p": None}) is None
    assert prompt_of({"p": ""}) == ""
    assert prompt_of({"prompt": "other", "p": "own"}) == "own"


def test_a_domain_that_is_not_text_is_ignored() -> None:
    assert parse_row({"image": "a", "domain": "near-domain"}, "", "here").domain == "near-domain"
    assert parse_row({"image": "a", "domain": 3}, "", "here").domain == ""


def test_training_reads_the_columns_named_in_the_recipe(tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / f"{part}.csv").write_text(f"photo,title,style\n{part}.jpg,a dog,pencil\n")
    names = {"image_column": "photo", "caption_column": "title", "prompt_template": "a {style} of "}
    train, val = read_samples(
        Recipe(data=DataConfig(str(tmp_path / "train.csv"), str(tmp_path / "val.csv"), **names))
    )
    assert [(sample.id, sample.captions, sample.prompt) for sample in train + val] == [
        (f"{part}.jpg", ("a dog",), "a pencil of ") for part in ("train", "val")
    ]


def test_ids_are_text_or_integers() -> None:
    assert [parse_id(value, "here") for value in (5, 5.0, "5.0", None, -3.0)] == [
        "5",
        "5",
        "5.0",
        "",
        "-3",
    ]
    for value in (5.5, float("nan"), float("inf"), True, []):
        with pytest.raises(DataError, match=r"here: the id .* is neither text nor an integer"):
            parse_id(value, "here")


def test_the_group_of_a_row_is_text_or_a_number() -> None:
    def group_of(value: object) -> str:
        return parse_row({"image": "a", "scene": value}, "", "here", columns).group

    columns = Columns(group_column="scene")
    assert [group_of(value) for value in ("x", 3, None, "")] == ["x", "3", "", ""]
    for value in (["x"], True):
        with pytest.raises(DataError, match=r"here: the group .* is neither text nor a number"):
            group_of(value)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_scenes_named_in_a_column_stay_together(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"data{suffix}"
    rows = [{"file_name": f"{n}.jpg", "caption": f"image {n}", "scene": n // 5} for n in range(40)]
    lines = [json.dumps(row) for row in rows]
    if suffix == ".csv":
        lines = [",".join(map(str, row)) for row in (rows[0], *(row.values() for row in rows))]
    path.write_text("\n".join(lines))
    data = DataConfig(str(path), val_fraction=0.25, group_column="scene")
    train, val = read_samples(Recipe(data=data))
    assert (len(train), len(val)) == (30, 10)
    assert not {sample.group for sample in train} & {sample.group for sample in val}
    with pytest.raises(DataError, match="has no column `video`"):
        read_samples(Recipe(data=replace(data, group_column="video")))
