"""Captions to review, in every form."""

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from cutline.data import open_data
from cutline.serving.review.open import open_captions
from cutline.serving.review.review import Review

TEXTS = ("a red dog", "a dog, on a “beach”", "zwei Hunde", "a cat", "a red dog", "no dog")
JSON_LINES = """\
{"file_name": "0.png", "caption": "a red dog", "confidence": 0.9, "n": 1.50}
{"caption":"a dog, on a \\u201cbeach\\u201d" ,"file_name":"1.png","tags":{"caption": "x"}}

{"file_name": "2.png", "captions": ["zwei Hunde"], "confidence": 0.25}
{"file_name": "3.png", "text": "a cat", "note": "\\ud83d\\ude00 ü"}
not a row
{"file_name": "3.png", "text": "a red dog"}
{"file_name": "5.png", "text": "no dog"}"""
CSV = """\
file_name;caption;"the note";confidence\r
0.png;a red dog;"a ""quoted"" note";0.9\r
1.png;"a dog, on a “beach”";"two
lines";\r
\r
2.png;"[""zwei Hunde""]";;0.25\r
3.png;a cat;ü;\r
3.png;a red dog;;\r
5.png;no dog;;"""
TSV = CSV.replace(";", "\t").replace("\r", "")


def write_review_images(folder: Path) -> None:
    for number in range(6):
        Image.new("RGB", (8, 6), (40 * number, 0, 0)).save(folder / f"{number}.png")


def write_json_lines(folder: Path) -> Path:
    (folder / "captions.jsonl").write_text(JSON_LINES, encoding="utf-8", newline="")
    return folder / "captions.jsonl"


def write_csv(folder: Path) -> Path:
    (folder / "captions.csv").write_text(CSV, encoding="utf-8", newline="")
    return folder / "captions.csv"


def write_tsv(folder: Path) -> Path:
    (folder / "captions.tsv").write_text(TSV, encoding="utf-8", newline="")
    return folder / "captions.tsv"


def write_parquet(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"{(0, 1, 2, 3, 3, 5)[number]}.png" for number in range(6)]
    pixels = [
        (folder / name).read_bytes() if folder.joinpath(name).exists() else b"" for name in names
    ]
    images = [{"bytes": data, "path": name} for data, name in zip(pixels, names, strict=True)]
    confidence = [0.9, None, 0.25, None, None, None]
    table = pa.table({"image": images, "caption": list(TEXTS), "confidence": confidence})
    pq.write_table(table, folder / "captions.parquet", row_group_size=4)
    return folder / "captions.parquet"


def write_sidecars(folder: Path) -> Path:
    write_review_images(folder)
    for number, text in enumerate(TEXTS):
        end = ("\n", "", "\r\n\r\n", "  \n")[number % 4]
        (folder / f"{number}.txt").write_text(text + end, encoding="utf-8", newline="")
    (folder / "0.caption").write_text("hidden by the other", encoding="utf-8")
    return folder


FORMS: dict[str, Callable[[Path], Path]] = {
    "jsonl": write_json_lines,
    "csv": write_csv,
    "tsv": write_tsv,
    "parquet": write_parquet,
    "sidecars": write_sidecars,
}


def open_review(path: Path) -> Review:
    return Review(open_captions(path))


def read_data(path: Path) -> dict[str, bytes] | list[list[str]]:
    """Return the contents of all files but the journal; of a Parquet file, its captions."""
    if path.suffix == ".parquet":
        return [list(sample.captions) for sample in open_data(path)]
    folder = path if path.is_dir() else path.parent
    files = (file for file in folder.iterdir() if not file.name.startswith(".cutline-review"))
    return {file.name: file.read_bytes() for file in files}


def read_journal(folder: Path) -> list[dict[str, object]]:
    lines = (folder / ".cutline-review.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
