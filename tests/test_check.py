"""Checking a data set: each fault is found, and nothing else is."""

import io
import json
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cutline.check import HARMFUL, KINDS, Findings, Spread, alike, check, summarize, write_sheet
from cutline.check.alike import difference_hash, group_alike
from cutline.check.pictures import AT_ONCE, Fault, Look, look, look_at_all
from cutline.cli.main import run_command
from cutline.config import CaptionConfig
from cutline.data import Sample, open_data
from cutline.errors import ConfigError, DataError
from cutline.files import FilePart
from cutline.tokenizer import Tokenizer


def photo(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Coarse random colours, smoothly blended: no two alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **settings: object) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **settings)  # type: ignore[arg-type]
    return data.getvalue()


@pytest.fixture
def clean(tmp_path: Path) -> list[Sample]:
    """Eight pictures with nothing wrong."""
    for number in range(8):
        photo(number).save(tmp_path / f"{number}.png")
    return [Sample(str(tmp_path / f"{n}.png"), (f"a photo of thing {n}", f"thing {n}, seen again"), str(n)) for n in range(8)]


def kinds(findings: Findings) -> list[tuple[str, str]]:
    return [(row.kind, Path(row.image).name) for row in findings.rows]


def test_a_clean_set_has_no_findings(clean: list[Sample]) -> None:
    found = check(clean)
    assert found.rows == []
    assert not found.harmful
    assert (found.num_readable, found.captions.sum, found.words.low, found.words.high) == (8, 16, 4, 5)
    assert found.tokens is None
    assert "Nothing is wrong." in summarize(found)


# ------------------------------------------------------------------------------------------------------- pictures


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _bomb(path: Path) -> None:
    path.write_bytes(encoded(Image.new("1", (20_000, 10_000)), "PNG"))


FAULTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "gone": ("missing", lambda path: path.unlink()),
    "a link to nothing": ("missing", _link_to_nothing),
    "zero length": ("unreadable", lambda path: path.write_bytes(b"")),
    "no picture": ("unreadable", lambda path: path.write_text("<html>404</html>")),
    "truncated": ("unreadable", _cut),
    "a folder": ("unreadable", _folder),
    "a bomb": ("unreadable", _bomb),
    "tiny": ("tiny", lambda path: photo(99, (40, 31)).save(path)),
    "narrow": ("narrow", lambda path: photo(99, (400, 90)).save(path)),
    "tall": ("narrow", lambda path: photo(99, (90, 400)).save(path)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_picture_is_found_and_nothing_else(clean: list[Sample], fault: str) -> None:
    kind, spoil = FAULTS[fault]
    spoil(Path(str(clean[3].image)))
    found = check(clean)
    assert kinds(found) == [(kind, "3.png")]
    assert found.harmful == (kind in HARMFUL)
    assert "3.png" in summarize(found)


def test_a_path_through_a_file_is_missing_and_an_impossible_one_unreadable(clean: list[Sample]) -> None:
    strange = [f"{clean[0].image}/inside.png", "nul\0.png", "x" * 5000]
    found = check([*clean, *(Sample(path, ("a thing",), path) for path in strange)])
    assert [row.kind for row in found.rows] == ["missing", "unreadable", "unreadable"]


def test_bytes_and_parts_of_files_are_pictures_too(clean: list[Sample]) -> None:
    whole = [replace(sample, image=Path(str(sample.image)).read_bytes()) for sample in clean]
    parts = [replace(sample, image=Part(sample.image, sample.id)) for sample in whole if isinstance(sample.image, bytes)]
    for samples in (whole, parts):
        assert check(samples).rows == []
        broken = replace(samples[2], image=b"broken" if samples is whole else Part(b"broken", "2"))
        found = check([*samples[:2], broken, *samples[3:], replace(samples[0], image=clean[0].image)])
        assert [row.kind for row in found.rows] == ["unreadable", "duplicate"]
        assert found.rows[0].image == ("2" if samples is whole else "shard.tar/2")


@dataclass(frozen=True)
class Part(FilePart):
    data: bytes
    name: str

    def __str__(self) -> str:
        return f"shard.tar/{self.name}"

    def read(self) -> bytes:
        return self.data


def test_names_that_are_not_utf8(clean: list[Sample], tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    try:
        Path(name).write_bytes(b"no picture")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    found = check([*clean, Sample(name, ("a \ud800 thing",), "x")])
    assert [row.kind for row in found.rows] == ["unreadable", "broken_text"]
    assert "caf\\udce9.png" in summarize(found)
    summarize(found).encode()
    write_sheet(tmp_path / "sheet.html", found)
    assert "caf\\udce9.png" in (tmp_path / "sheet.html").read_text(encoding="utf-8")


def test_what_is_unusual_is_counted(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[274] = 6
    files = {
        "grey": encoded(photo(1).convert("L")),
        "CMYK": encoded(photo(2).convert("CMYK")),
        "of 16 bits or more": encoded(Image.fromarray(np.asarray(photo(3).convert("L")).astype(np.uint16) * 257), "PNG"),
        "transparent": encoded(photo(4).convert("RGBA"), "PNG"),
        "of several frames": encoded(photo(5), "WEBP", save_all=True, append_images=[photo(6)]),
        "turned by EXIF": encoded(photo(7), exif=turned),
    }
    found = check([Sample(data, ("a thing",), name) for name, data in files.items()])
    assert found.traits == dict.fromkeys(files, 1)
    assert found.rows == []
    turned_look = look(files["turned by EXIF"])
    assert isinstance(turned_look, Look)
    assert (turned_look.width, turned_look.height) == (64, 96)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_looks_come_in_order_and_not_all_at_once(workers: int) -> None:
    asked = []

    def sources() -> object:
        for number in range(2 * AT_ONCE + 3):
            asked.append(number)
            yield encoded(Image.new("RGB", (number + 1, 1)), "PNG") if number % 5 else b"broken"

    looks = look_at_all(sources(), workers)  # type: ignore[arg-type]
    first = next(looks)
    assert isinstance(first, Fault)
    assert len(asked) == AT_ONCE
    widths = [one.width if isinstance(one, Look) else None for one in looks]
    assert widths == [number + 1 if number % 5 else None for number in range(1, 2 * AT_ONCE + 3)]


def test_ctrl_c_ends_it_and_its_threads(clean: list[Sample]) -> None:
    def stop(looks: object, total: int) -> object:
        assert total == 8
        yield next(looks)  # type: ignore[call-overload]
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        check(clean, progress=stop)  # type: ignore[arg-type]
    assert threading.active_count() == before


# --------------------------------------------------------------------------------------------------------- copies


def copies(image: Image.Image) -> dict[str, bytes]:
    """The picture, saved again in ways that do not change what is seen."""
    half = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
    return {"quality 60": encoded(image, quality=60), "half": encoded(half, quality=85), "webp": encoded(image, "WEBP", quality=70)}


def test_equal_pictures_are_duplicates_whatever_their_files(clean: list[Sample]) -> None:
    again = [Sample(encoded(photo(5), "BMP"), ("a thing",), "a"), Sample(encoded(photo(5), "PNG"), ("a thing",), "b")]
    found = check([*clean, *again])
    assert [row.kind for row in found.rows] == ["duplicate", "duplicate"]
    assert sum(map(len, found.duplicates)) == 3
    assert found.near_duplicates == []


@pytest.mark.parametrize("way", ["quality 60", "half", "webp"])
def test_copies_look_alike(clean: list[Sample], way: str) -> None:
    found = check([*clean, Sample(copies(photo(6))[way], ("a thing",), "z")])
    assert [row.kind for row in found.rows] == ["near_duplicate"]
    assert {sample.id for sample in found.near_duplicates[0]} == {"6", "z"}


def test_a_picture_in_both_sets_is_a_leak(clean: list[Sample]) -> None:
    val = [
        replace(clean[1], id="same file"),
        Sample(encoded(photo(2), "BMP"), (), "same pixels"),
        Sample(copies(photo(3))["quality 60"], (), "a copy"),
        Sample(encoded(photo(77)), (), "another"),
        Sample("/gone.png", (), "gone"),
    ]
    found = check(clean, against=val)
    assert kinds(found) == [("leak", "1.png"), ("leak", "2.png"), ("near_leak", "3.png")]
    assert found.harmful
    assert (found.num_against, found.num_others) == (4, 5)
    assert "against     4 of 5 readable\n" in summarize(found)
    assert not check(clean[3:], against=val[2:]).harmful


def test_other_data_without_a_readable_picture_are_told(clean: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = [Sample(f"/gone/{n}.png", (), str(n)) for n in range(3)]
    found = check(clean, against=gone)
    assert [row.kind for row in found.rows] == ["blind"]
    assert found.harmful
    assert "against     0 of 3 readable\n" in summarize(found)
    assert "/gone/0.png" in found.rows[0].detail
    assert not check(clean, against=[*gone, Sample(encoded(photo(77)), (), "x")]).harmful
    for sample in clean:
        Path(str(sample.image)).with_suffix(".txt").write_text("a thing\n")
    (tmp_path / "val.jsonl").write_text('{"file_name": "gone.png"}')
    assert run_command(["check", str(tmp_path), "--against", str(tmp_path / "val.jsonl")]) == 3
    assert "1 other data set has no picture that can be read" in capsys.readouterr().out


@pytest.mark.parametrize("head", ["photo,words", "image,words", "photo,title", "file_name,caption"])
def test_columns_of_the_other_data_may_be_as_usual(clean: list[Sample], tmp_path: Path, head: str) -> None:
    (tmp_path / "data.csv").write_text("photo,title\n0.png,a thing\n1.png,a thing\n")
    (tmp_path / "val.csv").write_text(f"{head}\n7.png,a thing\n")
    words = ["check", str(tmp_path / "data.csv"), "--columns.image", "photo", "--columns.caption", "title"]
    assert run_command([*words, "--against", str(tmp_path / "val.csv")]) == 0


def test_the_same_picture_under_several_prompts_is_one_picture(clean: list[Sample]) -> None:
    found = check([*clean, replace(clean[0], prompt="the left ", captions=("half",))])
    assert found.rows == []
    assert len(found.samples) == 8


def test_order_changes_nothing(clean: list[Sample]) -> None:
    data = [*clean, Sample(encoded(photo(5), "PNG"), (), "e"), Sample(copies(photo(5))["half"], ("x" * 9,), "n")]
    data += [Sample("/gone.png", ("a thing",), "g"), Sample(copies(photo(1))["quality 60"], ("...",), "m")]
    first = check(data, against=clean[6:])
    random.Random(1).shuffle(data)
    second = check(data, against=clean[7:5:-1])
    assert len({row.kind for row in first.rows}) == 6
    assert set(first.rows) == set(second.rows)
    assert {frozenset(one.id for one in group) for group in first.near_duplicates} == {
        frozenset(one.id for one in group) for group in second.near_duplicates
    }


def test_photographs_are_told_apart_and_their_copies_found(shared: Path) -> None:
    """300 photographs: no false alarm, and of the copies of thirty hardly one is missed."""
    data = open_data(shared / "data" / "coco-mini" / "train.jsonl")
    names = {str(sample.image) for sample in data}
    made = [
        Sample(copy, ("a thing",), f"{sample.id} {way}")
        for sample in data[:30]
        for way, copy in copies(Image.open(str(sample.image)).convert("RGB")).items()
    ]
    found = check([*data, *made])
    near = [row for row in found.rows if row.kind == "near_duplicate"]
    assert found.duplicates == []
    assert len(names) == 300
    assert len(near) >= 88
    assert all(len({str(one.id).split()[0] for one in group}) == 1 for group in found.near_duplicates)


thumbs = st.binary(min_size=216, max_size=216)


@given(st.lists(thumbs, max_size=12), st.randoms())
def test_groups_do_not_depend_on_order(some: list[bytes], rng: random.Random) -> None:
    some = some + [bytes(min(255, level + 3) for level in thumb) for thumb in some[::2]]
    shuffled = list(range(len(some)))
    rng.shuffle(shuffled)
    groups = {frozenset(group) for group in group_alike(some)}
    assert groups == {frozenset(shuffled[index] for index in group) for group in group_alike([some[index] for index in shuffled])}
    assert not some or groups


def test_groups_are_those_of_comparing_each_with_each() -> None:
    """Bands only save time: on thumbs with room between them the groups are those of all pairs."""
    rng = np.random.default_rng(3)
    bases = rng.integers(20, 236, (40, 216))
    some = (bases[rng.integers(0, 40, 200)] + rng.integers(-1, 2, (200, 216))).astype(np.uint8)
    close = (np.abs(some[:, None].astype(int) - some[None].astype(int)).max(axis=2) <= 16).astype(int)
    expected = {frozenset(np.flatnonzero(row).tolist()) for row in close if row.sum() > 1}
    assert {frozenset(group) for group in group_alike([thumb.tobytes() for thumb in some])} == expected


def test_pictures_on_a_white_ground_are_not_compared_each_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their hashes agree in the bands of the ground, so all are in one bucket; yet none of their copies is missed."""
    rng = np.random.default_rng(1)
    count = 3000
    some = np.full((count, 8, 27), 250, np.uint8)
    some[:, 2:6] = rng.integers(20, 230, (count, 4, 27))
    copied = np.clip(some[:200].astype(int) + rng.integers(-1, 2, (200, 8, 27)), 0, 255).astype(np.uint8)
    compared = []
    plain = alike._is_like
    monkeypatch.setattr(alike, "_is_like", lambda one, others, *rest: (compared.append(len(others)), plain(one, others, *rest))[1])
    groups = group_alike([thumb.tobytes() for thumb in [*some, *copied]])
    assert {frozenset(group) for group in groups} == {frozenset((place, count + place)) for place in range(200)}
    assert sum(compared) < 0.1 * count**2 / 2


def test_many_pictures_that_are_alike_are_one_group() -> None:
    rng = np.random.default_rng(1)
    some = 100 + rng.integers(-1, 2, (1000, 216)).astype(np.uint8)
    assert [len(group) for group in group_alike([thumb.tobytes() for thumb in some])] == [1000]


def test_the_difference_hash_has_a_bit_per_pair_of_neighbours() -> None:
    falling = np.repeat(np.arange(250, 0, -30, dtype=np.uint8)[:9], 3)  # each cell darker than its left neighbour
    row = np.tile(falling, 8)[None]
    assert difference_hash(row)[0] == np.uint64(2**64 - 1)
    assert difference_hash(255 - row)[0] == 0
    assert difference_hash(np.full((1, 216), 9, np.uint8))[0] == 0


# ------------------------------------------------------------------------------------------------------- captions


@pytest.mark.parametrize(
    ("captions", "kind"),
    [
        ((), ["uncaptioned"]),
        (("...", "!"), ["uncaptioned", "empty_caption", "empty_caption"]),
        (("a thing", "(*)"), ["empty_caption"]),
        ((" ".join(["word"] * 31),), ["long_caption"]),
        ((" ".join(["word"] * 30),), []),
        (("A thing.", "a thing"), ["repeated_caption"]),
        (("un caf\ufffd noir",), ["broken_text"]),
        (("ein Fest 🎉👩‍🚀", "一只狗坐在草地上", "một con chó", "الكلب", "собака"), []),
    ],
)
def test_each_fault_of_a_caption_is_found_and_nothing_else(clean: list[Sample], captions: tuple[str, ...], kind: list[str]) -> None:
    clean[4] = replace(clean[4], captions=captions)
    found = check(clean)
    assert kinds(found) == [(one, "4.png") for one in kind]
    assert found.harmful == ("uncaptioned" in kind)


def test_a_caption_of_many_pictures_is_found(clean: list[Sample]) -> None:
    many = [Sample(encoded(photo(100 + n, (40, 40)), "PNG"), ("A picture.",), f"m{n}") for n in range(10)]
    assert kinds(check([*clean, *many[:9]])) == []
    found = check([*clean, *many])
    assert kinds(found) == [("common_caption", "m0")]
    assert "10 pictures" in found.rows[0].detail


def test_tokens_are_counted_as_training_counts_them(clean: list[Sample]) -> None:
    tokenizer = Tokenizer.train(["a photo of thing 0 1 2 3 4 5 6 7, seen again", "a picture of"] * 3, 300)
    lengths = [len(tokenizer.encode(text, "a picture of ", 1000)[0]) for sample in clean for text in sample.captions]
    found = check(clean, tokenizer=tokenizer)
    assert found.tokens == Spread.of(lengths)
    assert found.rows == []
    assert "tokens" in summarize(found)
    shorter = check(clean, tokenizer=tokenizer, max_tokens=max(lengths) - 1)
    assert {row.kind for row in shorter.rows} == {"cut_caption"}
    assert len(shorter.rows) == lengths.count(max(lengths))
    bare = check([replace(sample, prompt="") for sample in clean], tokenizer=tokenizer)
    assert bare.tokens == Spread.of([length - 3 for length in lengths])


def test_unknown_words_and_characters_are_named(clean: list[Sample]) -> None:
    tokenizer = Tokenizer.train(["a photo of thing 0 1 2 3 4 5 6 7, seen again", "a picture of"] * 3, 300)
    clean[0] = replace(clean[0], captions=("a thing ёж", "again thing🎉 ёж"))
    found = check(clean, tokenizer=tokenizer)
    assert found.unknown_words == {"ёж": 2, "thing🎉": 1}
    assert found.unknown_characters == {"ё": 2, "ж": 2, "🎉": 1}
    assert [row.kind for row in found.rows] == ["unknown_word"] * 2
    assert not found.harmful
    assert "ё ж 🎉" in summarize(found)
    assert found.scripts["Cyrillic"] == 4
    assert found.scripts["symbols and emoji"] == 1


def test_unknown_words_are_words_in_every_script(clean: list[Sample]) -> None:
    tokenizer = Tokenizer.train(["a photo of thing 0 1 2 3 4 5 6 7, seen again", "a picture of"] * 3, 300)
    clean[0] = replace(clean[0], captions=("一只狗，坐着。", "狗狗", "ёж, thing, «ёж»", "สุนัข"))
    found = check(clean, tokenizer=tokenizer, clean="none")
    assert found.unknown_words == {
        **dict.fromkeys("一只坐着，。«»", 1), "狗": 3, "ёж": 2, "สุ": 1, "นั": 1, "ข": 1,
    }  # fmt: skip
    known = Tokenizer.train(["か わ い"] * 9, 100)
    clean = [replace(sample, captions=()) for sample in clean]
    clean[0] = replace(clean[0], captions=("かわい",))
    unknown = check(clean, tokenizer=known, clean="none").unknown_words
    assert set(unknown) <= set("かわい")


@given(st.lists(st.lists(st.text(st.characters(), min_size=1).filter(str.strip), max_size=3), min_size=1, max_size=3))
def test_any_text_can_be_checked_and_said(texts: list[list[str]]) -> None:
    picture = encoded(photo(1), "BMP")
    samples = [Sample(picture + bytes(number), tuple(captions), str(number)) for number, captions in enumerate(texts)]
    found = check(samples, tokenizer=Tokenizer.train(["a thing"], 50))
    assert found.captions.sum == sum(map(len, texts))
    assert summarize(found).encode()


def test_spreads() -> None:
    spread = Spread.of([3, 1, 3])
    assert (spread.low, spread.high, spread.sum, spread.total, list(spread.counts)) == (1, 3, 7, 3, [1, 3])
    assert spread.mean == pytest.approx(7 / 3)
    assert (Spread.of([]).low, Spread.of([]).mean) == (0, 0)


def test_what_cannot_be_checked_is_refused(clean: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        check(tmp_path / "no.jsonl")
    with pytest.raises(ConfigError, match="max_words 0"):
        check(clean, max_words=0)


# ---------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def folder(clean: list[Sample], tmp_path: Path) -> Path:
    """The clean set as a file, with four faults: a missing picture, a leak, a copy, a picture twice."""
    (tmp_path / "8.jpg").write_bytes(copies(photo(1))["quality 60"])
    (tmp_path / "9.png").write_bytes(encoded(photo(2), "PNG", compress_level=1))
    names = [f"{number}.png" for number in range(8)] + ["8.jpg", "9.png", "10.png"]
    rows = [{"file_name": name, "captions": [f"picture {name[:-4]}"]} for name in names]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "val.jsonl").write_text(json.dumps({"file_name": "7.png", "caption": "one"}))
    return tmp_path


def test_the_command_says_it_writes_it_and_ends_with_three(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", f"{folder}/train.jsonl", "--against", f"{folder}/val.jsonl"]
    assert run_command([*words, "-o", f"{folder}/found.jsonl", "--report", f"{folder}/sheet.html"]) == 3
    out, err = capsys.readouterr()
    assert err == ""
    for kind, name in (("missing", "10.png"), ("leak", "7.png"), ("duplicate", "9.png"), ("near_duplicate", "8.jpg")):
        assert f"  1 {KINDS[kind][0]}\n" in out
        assert f"/{name}: " in out
    assert out.index("To be mended") < out.index("7.png") < out.index("Worth a look") < out.index("8.jpg")
    rows = [json.loads(line) for line in (folder / "found.jsonl").read_text().splitlines()]
    assert [(row["kind"], Path(row["image"]).name) for row in rows] == [
        ("missing", "10.png"),
        ("leak", "7.png"),
        ("duplicate", "9.png"),
        ("near_duplicate", "8.jpg"),
    ]
    page = (folder / "sheet.html").read_text()
    assert page.count("data:image") == 10 + 2 + 2 + 2  # the sample, the leak, the pair, the copy
    assert "<rect" in page


def test_warnings_alone_end_with_zero(clean: list[Sample], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sample in clean:
        Path(str(sample.image)).with_suffix(".txt").write_text("a thing\nA thing.\n")
    assert run_command(["check", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "8 captions are said twice of one picture" in out
    assert "and 5 more" in out
    assert "To be mended" not in out


def test_the_vocabulary_of_a_model_is_read_without_its_weights(
    clean: list[Sample], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = folder / "run" / "best"
    best.mkdir(parents=True)
    Tokenizer.train(["a picture of"], 60).save(best / "tokenizer.json")
    (best / "config.json").write_text("{}")
    (folder / "model.pth").write_bytes(b"weights")
    Tokenizer.train(["a picture of"], 60).save(folder / "model.tokenizer.json")
    said = set()
    for flags in (["-m", best], ["-m", best.parent], ["-m", folder / "model.pth"], ["--tokenizer", best / "tokenizer.json"]):
        run_command(["check", f"{folder}/train.jsonl", *map(str, flags)])
        said.add(capsys.readouterr().out)
    assert len(said) == 1
    assert "[UNK]" in said.pop()


def test_errors_of_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"{folder}/train.jsonl"
    for words, code, sentence in (
        (["check", f"{folder}/no.jsonl"], 1, "no such file or folder"),
        (["check", data, "--against", f"{folder}/no.jsonl"], 1, "no such file or folder"),
        (["check", data, "-o", "found.csv"], 2, "check writes its findings to a .jsonl file"),
        (["check", data, "--against-split", "val"], 2, "give both"),
        (["check", data, "-m", f"{folder}/no-model"], 1, "no-model"),
        (["check", data, "--max-tokens", "2"], 2, "max_tokens 2"),
    ):
        assert run_command(words) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert sentence in err


def test_defaults_are_those_of_training() -> None:
    from inspect import signature

    from cutline.cli.check import check as command
    from cutline.config import DataConfig

    for function in (check, command):
        defaults = {name: parameter.default for name, parameter in signature(function).parameters.items()}
        assert defaults["prompt"] == CaptionConfig().prompt
        assert (defaults["clean"], defaults["max_words"], defaults["max_tokens"]) == (
            DataConfig().clean,
            DataConfig().max_words,
            DataConfig().max_tokens,
        )
