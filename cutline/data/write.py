"""Write captions to files atomically."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from cutline.errors import ConfigError, DataError
from cutline.files import atomic_write, write_text

Row = Mapping[str, Any]
OutputFormat = Literal["jsonl", "csv", "folder", "sidecars"]


def check_output(path: str | Path) -> OutputFormat:
    """Return the format in which `write_captions` would write to a path.

    Raises:
        ConfigError: The path has an unsupported extension.
    """
    suffix = Path(path).suffix.lower() or (Path(path).name if Path(path).name == ".txt" else "")
    if Path(path).is_dir() or str(path).endswith(("/", os.sep)):
        return "folder"
    if str(path) == ".txt":
        return "sidecars"
    formats: dict[str, OutputFormat] = {".jsonl": "jsonl", ".csv": "csv", "": "folder"}
    if suffix not in formats:
        raise ConfigError(
            f"{path}: captions cannot be written to a {suffix} file; "
            "give a .jsonl or .csv file, a folder, or `.txt` for a file beside each image"
        )
    return formats[suffix]


def write_captions(path: str | Path, rows: Iterable[Row]) -> None:
    """Write captions in a format that the path determines.

    - `captions.jsonl`: one row per line.
    - `captions.csv`: one column per key; lists are written as JSON.
    - A folder: each caption in a .txt file named after its image, in subfolders like the images'.
    - `.txt`: each caption in a .txt file beside its image.

    Existing files are overwritten.

    Args:
        path: File or folder to write.
        rows: Rows such as `{"image": path, "caption": text, "score": number}`; .txt files contain
            the caption only, the other formats all keys.

    Raises:
        DataError: A file cannot be written.
        ConfigError: The path has an unsupported extension.
    """
    output_format = check_output(path)
    rows = list(rows)
    try:
        if output_format == "jsonl":
            _write_jsonl(Path(path), rows)
        elif output_format == "csv":
            _write_csv(Path(path), rows)
        else:
            _write_sidecars(None if output_format == "sidecars" else Path(path), rows)
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: cannot be written ({error.strerror}); "
            "check the folder and its permissions"
        ) from None


@contextmanager
def _open_atomic(path: Path, newline: str) -> Iterator[IO[str]]:
    r"""Open a file that replaces `path` when it is complete.

    Python represents file names that are not UTF-8 by lone surrogates, which cannot be encoded;
    they are escaped (`\udcff`), in a way that JSON readers understand.
    """
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline=newline) as file,
    ):
        yield file


def _write_jsonl(path: Path, rows: list[Row]) -> None:
    with _open_atomic(path, newline="\n") as file:
        file.writelines(_to_json(dict(row)) + "\n" for row in rows)


def _write_csv(path: Path, rows: list[Row]) -> None:
    columns = list(dict.fromkeys(["image", "caption", *(key for row in rows for key in row)]))
    with _open_atomic(path, newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writeheader()
        writer.writerows({key: _to_cell(value) for key, value in row.items()} for row in rows)


def _to_cell(value: object) -> object:
    return _to_json(value) if isinstance(value, list | dict) else value


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=os.fspath)


def _write_sidecars(folder: Path | None, rows: list[Row]) -> None:
    sidecars = list_sidecars([str(row["image"]) for row in rows], folder)
    for sidecar, row in zip(sidecars, rows, strict=True):
        write_text(sidecar, " ".join(row["caption"].split()) + "\n")


def list_sidecars(images: Sequence[str], folder: Path | None = None) -> list[Path]:
    """Return the path of each image's text file, beside it or in `folder`.

    The sidecar of `a.jpg` is `a.txt`, unless it would overwrite an image or also be the sidecar of
    another image: `a.jpg` and `a.png` get `a.jpg.txt` and `a.png.txt`.
    """
    targets = [Path(image) for image in images]
    if folder and images:
        # Not Path.absolute(), which keeps "..", nor resolve(), which follows links.
        absolute = [Path(os.path.abspath(image)) for image in images]  # noqa: PTH100
        common = os.path.commonpath([target.parent for target in absolute])
        targets = [folder / target.relative_to(common) for target in absolute]
    short = {target: target.with_suffix(".txt") for target in targets}
    long = {target: target.with_name(target.name + ".txt") for target in targets}
    # A short name is used only if its path is neither an image nor another sidecar.
    uses = Counter([*short, *short.values(), *long.values()])
    return [short[target] if uses[short[target]] == 1 else long[target] for target in targets]
