"""`cutline check`."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from html_reader import read_galleries, read_page
from photos import encode, make_copies, make_photo

from cutline.check import KINDS
from cutline.checkpoint import save_checkpoint
from cutline.checkpoint.checkpoint import Checkpoint, build_empty_model
from cutline.cli.main import run_command
from cutline.config import CaptionConfig, CaptionText, to_dict
from cutline.config.read import read_recipe
from cutline.data import Sample, open_data
from cutline.tokenizer import Tokenizer
from cutline.training.data.dataset import encode_captions

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture
def folder(clean: list[Sample], tmp_path: Path) -> Path:
    """Return a dataset with a missing image, a leak, a duplicate and a near duplicate."""
    (tmp_path / "8.jpg").write_bytes(make_copies(make_photo(1))["quality 60"])
    (tmp_path / "9.png").write_bytes(encode(make_photo(2), "PNG", compress_level=1))
    names = [f"{number}.png" for number in range(8)] + ["8.jpg", "9.png", "10.png"]
    rows = [{"file_name": name, "captions": [f"image {name[:-4]}"]} for name in names]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "val.jsonl").write_text(json.dumps({"file_name": "7.png", "caption": "one"}))
    return tmp_path


def test_errors_give_exit_code_3_in_summary_rows_and_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [f"{folder}/train.jsonl", "--against", f"{folder}/val.jsonl"]
    files = ["-o", f"{folder}/findings.jsonl", "--report", f"{folder}/report.html"]
    assert run_command(["check", *data, *files]) == 3
    out, err = capsys.readouterr()
    assert err == ""
    expected = [
        ("missing", "10.png"),
        ("leak", "7.png"),
        ("duplicate", "9.png"),
        ("near_duplicate", "8.jpg"),
    ]
    for kind, name in expected:
        assert f"  1 {KINDS[kind].singular}\n" in out
        assert f"/{name}: " in out
    assert out.index("Errors") < out.index("7.png") < out.index("Warnings") < out.index("8.jpg")
    rows = [json.loads(line) for line in (folder / "findings.jsonl").read_text().splitlines()]
    assert [(row["kind"], Path(row["image"]).name) for row in rows] == expected
    assert all(row["detail"] for row in rows)
    [gallery] = read_galleries(read_page(folder / "report.html"))
    assert len(gallery["cards"]) == 11 + 1  # the images, and the one of the other dataset


def test_warnings_alone_give_exit_code_0(
    clean: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for sample in clean:
        Path(str(sample.image)).with_suffix(".txt").write_text("a thing\nA thing.\n")
    assert run_command(["check", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "8 captions are repeated for the same image" in out
    assert "and 5 more" in out
    assert "Errors" not in out


def test_errors_of_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"{folder}/train.jsonl"
    for words, code, message in (
        (["check", f"{folder}/no.jsonl"], 1, "no such file or folder"),
        (["check", data, "--against", f"{folder}/no.jsonl"], 1, "no such file or folder"),
        (["check", data, "-o", "found.csv"], 2, "check writes its findings to a .jsonl file"),
        (["check", data, "--against-split", "val"], 2, "--against-split needs --against"),
        (["check", data, "-m", f"{folder}/no-model"], 1, "no-model"),
        (["check", data, "--max-tokens", "2"], 2, "max_tokens must be at least 3, not 2"),
        (["check", data, "--recipe", f"{folder}/no.yaml"], 2, "the recipe cannot be read"),
        (["check", data, "--workers", "2"], 2, "--workers is now --num-workers"),
    ):
        assert run_command(words) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err


# The model and the recipe


@pytest.fixture
def photos(clean: list[Sample], tmp_path: Path) -> Path:
    """Return a folder of images with captions of up to 100 words."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for sample, length in zip(clean, (1, 5, 20, 30, 31, 50, 58, 100), strict=True):
        image = folder / Path(str(sample.image)).name
        image.write_bytes(Path(str(sample.image)).read_bytes())
        image.with_suffix(".txt").write_text(" ".join(f"w{n % 50}" for n in range(length)))
    return folder


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([" ".join(f"w{n}" for n in range(50)) + " a picture of"] * 3, 300)


@pytest.fixture
def save_model(tmp_path: Path, tokenizer: Tokenizer) -> Callable[..., Path]:
    """Return a function that saves a captioner, and returns its folder."""

    def save(prompt: str = "a picture of ", max_positions: int = 64) -> Path:
        config = replace(CaptionConfig.preset("tiny"), prompt=prompt)
        sizes = {"vocab_size": tokenizer.vocab_size, "max_positions": max_positions}
        config = replace(config, text=replace(config.text, **sizes))
        weights = {
            name: tensor.new_zeros(tensor.shape, device="cpu")
            for name, tensor in build_empty_model(config).state_dict().items()
        }
        folder = tmp_path / "model"
        save_checkpoint(folder, Checkpoint(config, weights, tokenizer))
        (folder / "model.safetensors").unlink()  # a check reads no weights
        return folder

    return save


def write_recipe(folder: Path, **sections: object) -> str:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(sections))
    return str(path)


def find_cut(folder: Path, *flags: str) -> list[str]:
    """Return the names of the images whose captions `cutline check` reports as truncated."""
    output = folder.parent / "findings.jsonl"
    assert run_command(["check", str(folder), "-o", str(output), *flags]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    kinds = ("cut_caption", "long_caption")
    return sorted({Path(row["image"]).name for row in rows if row["kind"] in kinds})


def find_cut_in_training(folder: Path, recipe: str, tokenizer: Tokenizer, prompt: str) -> list[str]:
    """Return the names of the images whose captions training with `recipe` truncates."""
    samples, data = open_data(folder), read_recipe(recipe).data
    full_length = replace(data, max_words=1000, max_tokens=1000)
    truncated = encode_captions(samples, tokenizer, data, prompt)
    full = encode_captions(samples, tokenizer, full_length, prompt)
    return sorted(
        Path(sample.name).name
        for sample, short, long in zip(samples, truncated, full, strict=True)
        if short != long
    )


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        ({}, None),
        ({"max_tokens": 60, "max_words": 1000}, ""),
        ({"max_tokens": 60, "max_words": 50}, "a picture of "),
        ({"max_tokens": 10}, None),
        ({"max_tokens": 61, "max_words": 1000}, "a picture of "),
    ],
)
def test_with_a_recipe_check_reports_what_training_truncates(
    photos: Path,
    save_model: Callable[..., Path],
    tokenizer: Tokenizer,
    data: dict[str, object],
    prompt: str | None,
) -> None:
    model = save_model(prompt="w1 w2 ")
    recipe = write_recipe(
        photos.parent, init={"captioner": str(model)}, data=data, model={"prompt": prompt}
    )
    expected = find_cut_in_training(
        photos, recipe, tokenizer, "w1 w2 " if prompt is None else prompt
    )
    assert expected
    assert find_cut(photos, "--recipe", recipe) == expected


def test_chinese_captions_of_60_tokens_are_not_cut(
    clean: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for sample in clean:
        Path(str(sample.image)).with_suffix(".txt").write_text("狗" * 58)
    Tokenizer.train(["狗"] * 9, 60).save(tmp_path / "tokenizer.json")
    vocabulary = ["--tokenizer", str(tmp_path / "tokenizer.json")]
    assert len(find_cut(tmp_path, *vocabulary)) == 8
    recipe = ["--recipe", str(RECIPES / "chinese.yaml")]
    assert find_cut(tmp_path, *recipe, *vocabulary) == []
    assert len(find_cut(tmp_path, *recipe, *vocabulary, "--prompt", "狗")) == 8
    assert len(find_cut(tmp_path, *recipe, *vocabulary, "--max-tokens", "59")) == 8
    # without a vocabulary: that of the recipe is not here
    capsys.readouterr()
    assert find_cut(tmp_path, *recipe, "--max-tokens", "3") == []
    out, err = capsys.readouterr()
    assert "token" not in out
    assert "tokens are not checked" in err
    assert "chinese-bert" in err


def test_a_recipe_gives_columns_and_image_root(clean: list[Sample], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    table = tmp_path / "elsewhere" / "data.csv"
    table.write_text("photo,title\n0.png,A thing.\n1.png,a thing\n")
    data = {
        "image_root": str(tmp_path),
        "image_column": "photo",
        "caption_column": "title",
        "clean": "none",
    }
    recipe = ["--recipe", write_recipe(tmp_path, data=data)]
    assert run_command(["check", str(table), *recipe]) == 0
    assert run_command(["check", str(table), *recipe, "--image-root", "elsewhere"]) == 3
    assert run_command(["check", str(table), *recipe, "--caption-column", "no"]) == 1


def test_a_model_gives_vocabulary_prompt_and_maximum_length(
    photos: Path, save_model: Callable[..., Path]
) -> None:
    longest = ["3.png", "4.png", "5.png", "6.png", "7.png"]  # 30 words or more
    flags = ["-m", str(save_model(prompt="", max_positions=22)), "--max-words", "1000"]
    assert find_cut(photos, *flags) == longest
    assert find_cut(photos, *flags, "--prompt", "w1") == ["2.png", *longest]  # 20 words
    flags = ["-m", str(save_model(prompt="w1")), "--max-words", "1000", "--max-tokens", "22"]
    assert find_cut(photos, *flags) == ["2.png", *longest]


def test_the_vocabulary_of_any_checkpoint_is_read_without_its_weights(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = folder / "run" / "best"
    best.mkdir(parents=True)
    tokenizer = Tokenizer.train(["an image of"], 60)
    tokenizer.save(best / "tokenizer.json")
    config = {"format": "cutline", "version": 1, "config": to_dict(CaptionConfig())}
    (best / "config.json").write_text(json.dumps(config))
    (folder / "model.pth").write_bytes(b"weights")
    tokenizer.save(folder / "model.tokenizer.json")
    summaries = set()
    for flags in (
        ["-m", best],
        ["-m", best.parent],
        ["-m", folder / "model.pth"],
        ["--tokenizer", best / "tokenizer.json"],
    ):
        run_command(["check", f"{folder}/train.jsonl", *map(str, flags)])
        summaries.add(capsys.readouterr().out)
    assert len(summaries) == 1
    assert "[UNK]" in summaries.pop()


def test_defaults_are_those_of_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, value in to_dict(CaptionText()).items():
        flag = f"--{name.replace('_', '-')}"
        assert f"(default: {value})" in text[text.index(flag) :].partition("--")[2], name
    assert f'"{CaptionConfig().prompt}"' in text
