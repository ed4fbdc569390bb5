"""The options of `cutline caption` for collections, through the command itself."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from bulk_outputs import Caption, Captions, find_name, read_captions, read_lines, read_table
from bulk_sources import ALLOW_URLS, SOURCES, USUAL_SOURCES, Images, write_rows
from PIL import Image
from tars import write_tar

from cutline.batching.alt_text import make_alt_text
from cutline.demo.scenes import make_scenes, write_scenes

TABLES = ("captions.jsonl", "captions.parquet")


@pytest.fixture
def folder(images: Images) -> Path:
    """Return a folder with the twelve images, in two subfolders."""
    images.link("photos/a", "photos/b")
    return images.folder / "photos"


# Parts of a collection


@pytest.mark.parametrize(
    "name",
    [
        name if name in USUAL_SOURCES else pytest.param(name, marks=pytest.mark.slow)
        for name in SOURCES
        if name != "list on stdin"  # which can be read once
    ],
)
def test_parts_are_disjoint_and_complete(
    name: str, images: Images, caption: Caption, plain_captions: Captions
) -> None:
    source = SOURCES[name](images)
    captions: Captions = {}
    count = 3 if "shard" in source.kind else 2  # also more parts than shards
    for part in range(count):
        out = images.folder / "out" / "captions.jsonl"
        code, _, _ = caption(*source.words, "-o", out, "--part", f"{part}/{count}")
        assert code == 0
        found = read_captions(out.with_name(f"captions-{part:05}-of-{count:05}.jsonl"))
        assert not captions.keys() & found.keys()
        captions |= found
    assert captions == plain_captions


@pytest.mark.parametrize("output", ["texts/", "shards/", ".txt"])
def test_parts_share_a_folder(
    output: str, folder: Path, caption: Caption, plain_captions: Captions
) -> None:
    out = output if output == ".txt" else f"{folder.parent}/{output}"
    more = ["--folder-format", output.rstrip("/")] if output == "shards/" else []
    for _ in range(2):
        for part in range(2):
            assert caption(folder, "-o", out, "--part", f"{part}/2", *more)[0] == 0
    assert read_captions(folder if output == ".txt" else Path(out)) == plain_captions


def test_a_limit_is_reached_step_by_step(
    folder: Path, caption: Caption, plain_captions: Captions
) -> None:
    out = folder.parent / "captions.csv"
    for count in (5, 10, 12):
        assert caption(folder, "-o", out, "--limit", "5")[0] == 0
        assert len(read_captions(out)) == count
    assert read_captions(out) == plain_captions
    assert len(caption(folder, "--limit", "5")[1].splitlines()) == 5


def test_subfolders_can_be_left_out(images: Images, caption: Caption) -> None:
    images.link("photos", "photos/sub")
    photos = images.folder / "photos"
    captions = read_lines(caption(photos, "--no-recursive")[1])
    assert sorted(captions) == sorted(path.stem for path in photos.glob("*.png"))
    assert len(captions) == 6


# Alternative texts


@pytest.mark.parametrize("output", ["", *TABLES, "shards/", ".txt"])
def test_alternative_texts_go_to_every_output(
    output: str, folder: Path, caption: Caption, plain_captions: Captions
) -> None:
    expected = {name: make_alt_text(text).text for name, text in plain_captions.items()}
    assert expected != plain_captions
    out = Path(output or "-")
    if output and output != ".txt":
        out = folder.parent / output
    more = ["--folder-format", "shards"] if output == "shards/" else []
    more += ["--words"] if output in TABLES else []
    code, printed, _ = caption(folder, "-o", output and out, "--style", "alt", *more)
    assert code == 0
    if not output:
        assert read_lines(printed) == expected
        return
    assert read_captions(folder if output == ".txt" else out) == expected
    for row in read_table(out) if output in TABLES else ():
        assert bool(row["words"]) == any(map(str.isalnum, row["caption"]))
        for word in row["words"]:
            assert row["caption"][word["start"] : word["end"]] == word["text"]
    code, _, err = caption(folder, "-o", out, *more)  # a run of another style
    assert code == 2
    assert "style was 'alt', and is the default" in err


def test_the_template_has_an_alternative_text(folder: Path, caption: Caption) -> None:
    more = ("--style", "alt", "--caption-template", "sks: {caption}", "--words")
    out = folder.parent / "captions.jsonl"
    assert caption(folder, "-o", out, *more)[0] == 0
    for row in read_table(out):
        text = row["caption"].removeprefix("sks: ")
        assert make_alt_text(text).text == text
        for word in row["words"]:
            assert row["caption"][word["start"] : word["end"]] == word["text"]


# Runs that follow each other


def test_failed_images_are_tried_again_on_request(folder: Path, caption: Caption) -> None:
    out, broken = folder.parent / "captions.jsonl", folder / "broken.png"
    broken.write_bytes(b"no image")
    times = broken.stat().st_atime_ns, broken.stat().st_mtime_ns
    failed = Path(f"{out}.failed.jsonl")
    code, _, err = caption(folder, "-o", out)
    assert code == 3
    assert "1 of 13 images could not be captioned" in err
    assert str(failed) in err
    code, _, err = caption(folder, "-o", out)
    assert code == 3
    assert "--retry-failed" in err
    broken.unlink()
    shutil.copy(next(folder.rglob("scene*.png")), broken)
    os.utime(broken, ns=times)
    assert caption(folder, "-o", out, "--retry-failed")[0] == 0
    assert len(read_table(out)) == 13
    assert not failed.exists()


def test_another_output_is_not_replaced_unless_asked(
    folder: Path, caption: Caption, plain_captions: Captions
) -> None:
    out = folder.parent / "captions.jsonl"
    out.write_text("precious\n")
    code, _, err = caption(folder, "-o", out)
    assert code == 2
    assert f"{out}: exists" in err
    assert "--new-run" in err
    assert out.read_text() == "precious\n"
    assert caption(folder, "-o", out, "--new-run")[0] == 0
    assert read_captions(out) == plain_captions
    texts = folder.parent / "texts"
    texts.mkdir()
    (texts / "notes.md").write_text("precious")
    assert caption(folder, "-o", texts)[0] == 2
    assert [path.name for path in texts.iterdir()] == ["notes.md"]
    assert caption(folder, "-o", texts, "--new-run")[0] == 0
    assert (texts / "notes.md").read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--num-beams", "2"], ["num_beams was 1, and is 2"]),
        (["--repetition-penalty", "2"], ["repetition_penalty was the default, and is 2.0"]),
        (["--caption-template", "{caption}!"], ["caption_template was"]),
        (["--prompt", "a photo of"], ["prompt was not given, and is 'a photo of'"]),
        (["--no-recursive"], ["recursive was"]),
        (["--precision", "bf16"], ["precision was"]),
    ],
)
def test_other_settings_are_refused_and_named(
    words: Sequence[str], names: Sequence[str], folder: Path, caption: Caption, model: str
) -> None:
    out = folder.parent / "captions.jsonl"
    assert caption(folder, "-o", out)[0] == 0
    before = out.read_bytes()
    code, _, err = caption(folder, "-o", out, *words)
    assert code == 2, err
    assert all(name in err for name in names), err
    assert "--new-run" in err
    assert out.read_bytes() == before


def test_another_source_or_model_is_refused(folder: Path, caption: Caption, model: str) -> None:
    out = folder.parent / "captions.jsonl"
    assert caption(folder, "-o", out)[0] == 0
    code, _, err = caption(folder / "a", "-o", out)
    assert code == 2
    assert "source was" in err
    other = folder.parent / "model"
    shutil.copytree(model, other)
    config = json.loads((other / "config.json").read_text())
    config["config"]["prompt"] = "another prompt "
    (other / "config.json").write_text(json.dumps(config))
    code, _, err = caption(folder, "-o", out, "--model", other)
    assert code == 2, err
    assert "model was" in err
    shutil.copytree(model, folder.parent / "same")  # the same captioner in another folder
    assert caption(folder, "-o", out, "--model", folder.parent / "same")[0] == 0


# What is written


@pytest.mark.parametrize("existing", ["skip", "overwrite", "append", "prepend"])
@pytest.mark.parametrize("output", [".txt", "texts/", "shards/"])
def test_texts_that_exist(
    existing: str, output: str, images: Images, caption: Caption, plain_captions: Captions
) -> None:
    (shard,) = images.write_shards(1)
    paths = images.link("photos")
    members: dict[str, bytes | str] = {}
    for path in paths:
        members[path.name] = path.read_bytes()
        if path.stem.endswith("3"):
            members[f"{path.stem}.txt"] = "by hand"
            path.with_suffix(".txt").write_text("by hand\n")
    write_tar(Path(shard), members)
    out = output if output == ".txt" else str(images.folder / output)
    if output == "texts/":
        shutil.copytree(paths[0].parent, out, ignore=shutil.ignore_patterns("*.png"))
        assert caption(paths[0].parent, "-o", out, "--existing", existing)[0] == 2
    source = shard if output == "shards/" else paths[0].parent
    for is_second in (False, True):
        flags = ["--new-run"] if output == "texts/" and not is_second else []
        code, _, err = caption(source, "-o", out, "--existing", existing, *flags)
        assert code == 0, err
        skipped = "skipped, because they have a caption already: 1; --existing overwrite"
        assert (skipped in err) == (existing == "skip")
        found = read_captions(paths[0].parent if output == ".txt" else Path(out))
        for name, text in plain_captions.items():
            combined = {
                "skip": "by hand",
                "overwrite": text,
                "append": f"by hand\n{text}",
                "prepend": f"{text}\nby hand",
            }
            assert found.pop(name) == (combined[existing] if name.endswith("3") else text)


def test_the_template_and_the_extension(
    folder: Path, caption: Caption, plain_captions: Captions
) -> None:
    template = ["--caption-template", "{caption}, photo of sks dog"]
    expected = {name: f"{text}, photo of sks dog" for name, text in plain_captions.items()}
    assert caption(folder, "--caption-extension", ".cap", *template)[0] == 0
    assert read_captions(folder, ".cap") == expected
    out = folder.parent / "captions.tar"
    assert caption(folder, "-o", out, "--caption-extension", "cap", *template)[0] == 0
    assert read_captions(out, ".cap") == expected
    assert read_lines(caption(folder, *template)[1]) == expected


def test_alternatives_and_log_probabilities(folder: Path, caption: Caption) -> None:
    more = ["--num-beams", "3", "--num-captions", "2", "--token-log-probs"]
    for suffix in (".jsonl", ".parquet", ".csv"):
        out = folder.parent / f"captions{suffix}"
        assert caption(folder, "-o", out, *more)[0] == 0
        rows = read_table(out)
        assert len(rows) == 12
        for row in rows:
            if suffix == ".csv":
                row |= {name: json.loads(row[name]) for name in ("alternatives", "token_log_probs")}
            first, second = row["alternatives"]
            assert first["caption"] == row["caption"]
            assert second["score"] <= first["score"]
            assert first["token_log_probs"] == row["token_log_probs"]
            assert all(value <= 0 for value in row["token_log_probs"])
    lines = caption(folder, *more)[1].splitlines()
    assert len(lines) == 24


def test_a_prompt_of_each_image_and_columns_that_are_carried_along(
    images: Images, caption: Caption
) -> None:
    paths = images.link("photos")[:2]
    table = images.folder / "photos" / "list.jsonl"
    rows = [
        {
            "file_name": path.name,
            "image_id": f"id {index}",
            "caption": f"original {index}",
            "prompt": prompt,
            "url": f"https://example.org/{path.name}",
        }
        for index, (path, prompt) in enumerate(zip(paths, ["a red", "the blue"], strict=True))
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = images.folder / "captions.jsonl"
    assert caption(table, "-o", out)[0] == 0
    captions = []
    for prompt, path in zip(["a red", "the blue"], paths, strict=True):
        captions.append(read_lines(caption(path, "--prompt", prompt)[1])[path.stem])
    assert [
        (row["id"], row["caption"], row["url"], row["original_captions"]) for row in read_table(out)
    ] == [
        (f"id {index}", captions[index], rows[index]["url"], [f"original {index}"])
        for index in range(2)
    ]
    rows[1]["prompt"] = "a red"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "captioned by an earlier run: 1\n" in caption(table, "-o", out)[2]


@pytest.mark.parametrize("output", ["", "captions.jsonl"])
def test_a_report(output: str, folder: Path, caption: Caption, plain_captions: Captions) -> None:
    report = folder.parent / "report.html"
    out = ["-o", folder.parent / output] if output else []
    code, stdout, _ = caption(folder, *out, "--report", report)
    assert code == 0
    assert output or read_lines(stdout) == plain_captions
    page = report.read_text()
    assert page.count("data:image/") == 12
    assert all(text in page for text in plain_captions.values())
    assert f"<h1>Captions of {folder}</h1>" in page
    assert len(list(folder.parent.iterdir())) == (4 if output else 2)
    assert caption(folder, *out, "--report", report, "--report-images", "5")[0] == 0
    page = report.read_text()
    assert page.count("data:image/") == 5
    assert "5 of 12 images, chosen at random" in page


# Addresses, names


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".txt"])
def test_addresses_in_data_are_fetched_only_on_request(
    suffix: str, images: Images, caption: Caption
) -> None:
    path = write_rows(images.folder / f"list{suffix}", images.serve())
    images.server.requests.clear()
    words = ["--from-list", path] if suffix == ".txt" else [path]
    code, _, err = caption(*words, "-o", images.folder / "out.jsonl", *ALLOW_URLS[1:])
    assert code == 1
    assert err.count("--allow-urls") == 12
    assert caption(*words, "-o", images.folder / "private.jsonl", "--allow-urls")[0] == 1
    assert not images.server.requests


def test_the_same_file_name_in_two_folders(
    scenes: list[Path], tmp_path: Path, caption: Caption
) -> None:
    for index, name in enumerate(("a", "b", "c")):
        (tmp_path / name).mkdir()
        shutil.copy(scenes[index], tmp_path / name / "same.png")
    out = tmp_path / "out" / "captions.jsonl"
    code, _, err = caption(tmp_path / "a", tmp_path / "b", tmp_path / "c" / "same.png", "-o", out)
    assert code == 0, err
    rows = read_table(out)
    assert [row["id"] for row in rows] == ["a/same.png", "b/same.png", "c/same.png"]
    plain = [caption(path)[1].split("\t")[1].rstrip("\n") for path in scenes[:3]]
    assert [row["caption"] for row in rows] == plain


# Other tools

LOAD = """
import json, sys
from datasets import load_dataset
data = load_dataset("imagefolder", data_dir=sys.argv[1], split="train")
print(json.dumps([[row["image"].size[0], row["text"]] for row in data]))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("datasets") is None, reason="needs datasets")
def test_datasets_loads_metadata_jsonl(tmp_path: Path, caption: Caption) -> None:
    photos = tmp_path / "photos"
    write_scenes(photos, make_scenes(12, seed=3), size=48)
    (photos / "captions.jsonl").unlink()
    (photos / "sub dir").mkdir()
    for index, path in enumerate(sorted(photos.glob("*.png"))):
        with Image.open(path) as image:
            image.resize((40 + index, 40)).save(path)
        if index % 2:
            path.rename(photos / "sub dir" / path.name)
    out = photos / "metadata.jsonl"
    assert caption(photos, "-o", out)[0] == 0
    assert (photos / "metadata.jsonl.state").is_dir()
    cache = tmp_path / "cache"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", LOAD, str(photos)],
        env={**environment, "HF_HOME": str(cache)},
        capture_output=True,
        check=True,
    )
    rows = read_table(out)
    assert all(list(row) == ["file_name", "text"] for row in rows)
    expected = {40 + int(find_name(row["file_name"])[-6:]): row["text"] for row in rows}
    loaded = json.loads(result.stdout)
    assert len(loaded) == len(rows) == 12
    assert dict(loaded) == expected
