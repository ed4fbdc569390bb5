"""Which columns of a table are what."""

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
            "prompt_template 'a photo of' names no column: write it in braces, as {style}",
        ),
        ("a {} of", "prompt_template 'a {} of' names no column: write it in braces, as {style}"),
        (
            "a {style of",
            "prompt_template 'a {style of' names no column: write it in braces, as {style}",
        ),
        ("{a} {", "prompt_template '{a} {' has a brace too many: put each column between two"),
        ("{{a}}", "prompt_template '{{a}}' has a brace too many: put each column between two"),
    ],
)
def test_templates_that_make_no_sense(template: str, message: str) -> None:
    for make in (
        lambda: Columns(prompt_template=template),
        lambda: DataConfig(prompt_template=template),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert str(caught.value) == message


def test_one_source_of_prompts() -> None:
    with pytest.raises(
        ConfigError, match="prompt_column and prompt_template are both given: leave one out"
    ):
        DataConfig(prompt_column="a", prompt_template="{b}")


def test_settings_become_columns() -> None:
    data = DataConfig(image_column="i", caption_column="c", prompt_template="a {x y} of {z}, {z}")
    assert data.columns == Columns("i", "c", prompt_template="a {x y} of {z}, {z}")
    assert data.columns.names == ("i", "c", "x y", "z", "z")
    assert DataConfig(prompt_column="p").columns == Columns(prompt_column="p")
    assert DataConfig().columns.names == ()


def test_values_are_put_in_as_they_are() -> None:
    row = {"image": "a", "x": r"{y} \1", "y": "no", "n": 1.5}
    assert parse_row(row, "", "here", Columns(prompt_template="{x} {n}")).prompt == r"{y} \1 1.5"


def test_an_empty_prompt_column_leaves_the_model_s_prompt() -> None:
    assert (
        parse_row({"image": "a", "p": None}, "", "here", Columns(prompt_column="p")).prompt is None
    )
    assert parse_row({"image": "a", "p": ""}, "", "here", Columns(prompt_column="p")).prompt == ""
    assert (
        parse_row(
            {"image": "a", "prompt": "other", "p": "mine"}, "", "here", Columns(prompt_column="p")
        ).prompt
        == "mine"
    )


def test_a_domain_that_is_no_text_is_another_thing() -> None:
    assert parse_row({"image": "a", "domain": "near-domain"}, "", "here").domain == "near-domain"
    assert parse_row({"image": "a", "domain": 3}, "", "here").domain == ""


def test_a_run_reads_the_columns_it_names(tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / f"{part}.csv").write_text(f"photo,title,style\n{part}.jpg,a dog,pencil\n")
    names = {"image_column": "photo", "caption_column": "title", "prompt_template": "a {style} of "}
    train, val = read_samples(
        Recipe(data=DataConfig(str(tmp_path / "train.csv"), str(tmp_path / "val.csv"), **names))
    )
    assert [(sample.id, sample.captions, sample.prompt) for sample in train + val] == [
        (f"{part}.jpg", ("a dog",), "a pencil of ") for part in ("train", "val")
    ]


def test_ids_are_texts_and_whole_numbers() -> None:
    assert [parse_id(value, "here") for value in (5, 5.0, "5.0", None, -3.0)] == [
        "5",
        "5",
        "5.0",
        "",
        "-3",
    ]
    for value in (5.5, float("nan"), float("inf"), True, []):
        with pytest.raises(DataError, match=r"here: the id .* is neither text nor a whole number"):
            parse_id(value, "here")
