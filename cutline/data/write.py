"""Captions written to files, each of them whole or not at all."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from cutline.errors import ConfigError, DataError
from cutline.files import atomic_write, write_text

Row = Mapping[str, Any]
Output = Literal["jsonl", "csv", "folder", "beside"]


def check_output(path: str | Path) -> Output:
    """What `write_captions` would write at `path`. Raises ConfigError for names it does not know."""
    name, suffix = Path(path).name, Path(path).suffix.lower()
    if Path(path).is_dir() or str(path).endswith(("/", os.sep)):
        return "folder"
    if name == ".txt":
        return "beside"
    known: dict[str, Output] = {".jsonl": "jsonl", ".csv": "csv", "": "folder"}
    if suffix not in known:
        raise ConfigError(
            f"{path}: captions go to a .jsonl or .csv file, to a folder, or to a file beside each image (`.txt`); name one of these"
        )
    return known[suffix]


def write_captions(path: str | Path, rows: Iterable[Row]) -> None:
    """Write `{"image": path, "caption": text, "score": number, "alternatives": [...]}` rows; more keys are written too.

    - `captions.jsonl`: a row per line.
    - `captions.csv`: a column per key; lists as JSON.
    - a folder: the caption of each image in a .txt file named after it; subfolders as those of the images.
    - `.txt`: the caption of each image in a .txt file beside it.

    Text files there are overwritten. Raises DataError, and ConfigError for names it does not know.
    """
    output = check_output(path)
    rows = list(rows)
    try:
        match output:
            case "jsonl":
                _write_jsonl(Path(path), rows)
            case "csv":
                _write_csv(Path(path), rows)
            case _:
                _write_sidecars(None if output == "beside" else Path(path), rows)
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: cannot be written ({error.strerror}); check the folder and its permissions"
        ) from None


# File names that are not UTF-8 reach Python as lone surrogates, which cannot be encoded: both writers escape them (`\udcff`), and JSON
# readers understand that.


def _write_jsonl(path: Path, rows: list[Row]) -> None:
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
    ):
        file.writelines(_json(dict(row)) + "\n" for row in rows)


def _write_csv(path: Path, rows: list[Row]) -> None:
    columns = dict.fromkeys(["image", "caption", *(key for row in rows for key in row)])
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.DictWriter(
            file, list(columns), lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
        )
        writer.writeheader()
        writer.writerows(
            {
                key: _json(value) if isinstance(value, list | dict) else value
                for key, value in row.items()
            }
            for row in rows
        )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=os.fspath)


def _write_sidecars(folder: Path | None, rows: list[Row]) -> None:
    for target, row in zip(
        sidecars([str(row["image"]) for row in rows], folder), rows, strict=True
    ):
        write_text(target, " ".join(row["caption"].split()) + "\n")


def sidecars(images: Sequence[str], folder: Path | None = None) -> list[Path]:
    """The text file of each image, beside it or in `folder`: `a.txt` for `a.jpg`, but `a.jpg.txt` and `a.png.txt` where both exist."""
    targets = [Path(image) for image in images]
    if folder and images:
        absolute = [Path(os.path.abspath(image)) for image in images]  # Path.absolute() keeps ".."
        common = os.path.commonpath([target.parent for target in absolute])
        targets = [folder / target.relative_to(common) for target in absolute]
    short = {target: target.with_suffix(".txt") for target in targets}
    long = {target: target.with_name(target.name + ".txt") for target in targets}
    taken = Counter(
        [*short, *short.values(), *long.values()]
    )  # no caption over an image or over another's caption
    return [short[target] if taken[short[target]] == 1 else long[target] for target in targets]
