"""Images that are damaged, odd or no images, among those of a folder: captioned or listed."""

import json
import os
import struct
import zlib
from pathlib import Path

import pytest
from bulk_outputs import FAST, Caption, read_captions, read_table
from forked import run_command
from PIL import Image

from cutline.image.limits import MAX_PIXELS


def write_huge_png(path: Path) -> None:
    """Write a small file that claims to have more pixels than are decoded."""
    side = int(MAX_PIXELS**0.5) + 1
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


@pytest.fixture
def odd(scenes: list[Path], tmp_path: Path) -> tuple[Path, list[str], list[str]]:
    """Return a folder, and the ids of its images that can and cannot be captioned."""
    folder = tmp_path / "photos"
    folder.mkdir()
    with Image.open(scenes[0]) as opened:
        image = opened.convert("RGB")
    image.save(folder / "plain.jpg")
    image.convert("CMYK").save(folder / "cmyk.jpg")
    Image.new("I;16", (40, 40), 30_000).save(folder / "sixteen bits.png")
    palette = image.convert("P")
    palette.save(folder / "palette.png", transparency=0)
    image.convert("RGBA").save(folder / "alpha.webp")
    image.save(folder / "animated.gif", save_all=True, append_images=[image.rotate(90)])
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "rotated.jpg", exif=exif)
    image.convert("1").save(folder / "bits.png")
    image.resize((1, 200)).save(folder / "narrow.png")
    good = [path.name for path in folder.iterdir()]
    for name in ("new\nline.png", "日本 ü.png", os.fsdecode(b"\xff\xfe.png"), "tab\t.png", " .png"):
        try:
            image.save(folder / name)
        except OSError:  # of a file system that has no such names
            continue
        good.append(name)
    jpeg = (folder / "plain.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("no image\n" * 100)
    (folder / "header.png").write_bytes(scenes[0].read_bytes()[:40])
    write_huge_png(folder / "huge.png")
    bad = ["truncated.jpg", "empty.jpg", "text.jpg", "header.png", "huge.png"]
    return folder, sorted(good), sorted(bad)


def escape(name: str) -> str:
    """Return a name as JSON readers find it: bytes that are not UTF-8 are lone surrogates."""
    return name.encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".tar", "/", ".txt"])
def test_each_image_is_captioned_or_listed(
    suffix: str, odd: tuple[Path, list[str], list[str]], caption: Caption
) -> None:
    folder, good, bad = odd
    out = ".txt" if suffix == ".txt" else f"{folder.parent}/captions{suffix}"
    failed = Path(f"{out.rstrip('/')}.failed.jsonl")
    if suffix == ".txt":
        failed = folder / ".cutline" / "txt.failed.jsonl"
    for run in range(2):
        code, _, err = caption(folder, "-o", out)
        assert code == 3, err
        failures = [json.loads(line) for line in failed.read_text().splitlines()]
        assert sorted(each["id"] for each in failures) == bad
        for failure in failures:
            assert failure["kind"] == "image"
            assert failure["id"] in failure["reason"]
        assert all(line.startswith("cutline: ") for line in err.splitlines())
        assert err.count("skipped:") == (0 if run else len(bad))
        assert f"{len(bad)} of {len(good) + len(bad)} images could not be captioned" in err
    if suffix in (".jsonl", ".csv", ".parquet"):
        ids = [row["id"] for row in read_table(Path(out))]
        expected = good if suffix == ".jsonl" else map(escape, good)
        assert sorted(ids) == sorted(expected)
    elif suffix != ".tar":
        texts = list((folder if suffix == ".txt" else Path(out)).rglob("*.txt"))
        assert len(texts) == len(good)


@pytest.mark.slow
def test_lines_on_stdout_stay_lines(odd: tuple[Path, list[str], list[str]], model: str) -> None:
    folder, good, _ = odd
    result = run_command(["caption", str(folder), "-m", model, *FAST], None, b"", {**os.environ})
    assert result.returncode == 3
    rows = [line.split(b"\t") for line in result.stdout.split(b"\n")[:-1]]
    assert all(len(row) == 2 for row in rows)
    names = [row[0].removeprefix(os.fsencode(f"{folder}/")) for row in rows]
    escaped = [name.replace("\n", "\\n").replace("\t", "\\t") for name in good]
    assert sorted(names) == sorted(map(os.fsencode, escaped))


def test_an_exif_rotation_is_obeyed(
    odd: tuple[Path, list[str], list[str]], caption: Caption, tmp_path: Path
) -> None:
    folder, _, _ = odd
    out = tmp_path / "captions.jsonl"
    with Image.open(folder / "rotated.jpg") as image:
        upright = image.convert("RGB").rotate(-90)
    assert caption(folder, "-o", out)[0] == 3
    captions = {row["id"]: row["caption"] for row in read_table(out)}
    upright.save(tmp_path / "upright.png")
    assert caption(tmp_path / "upright.png")[1].split("\t")[1] == f"{captions['rotated.jpg']}\n"


def test_nothing_but_bad_images_is_a_failure(tmp_path: Path, caption: Caption) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"")
    out = tmp_path / "out.jsonl"
    code, _, err = caption(tmp_path / "photos", "-o", out)
    assert code == 1
    assert "no image could be captioned" in err
    assert Path(f"{out}.failed.jsonl").is_file()
    assert read_captions(out) == {}


def test_a_folder_without_images_leaves_nothing(tmp_path: Path, caption: Caption) -> None:
    (tmp_path / "photos").mkdir()
    assert caption(tmp_path / "photos", "-o", tmp_path / "out.jsonl")[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
