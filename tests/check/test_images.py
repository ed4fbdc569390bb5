"""Images: each problem is reported, and nothing else."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from photos import encode, kinds_and_names, make_photo
from PIL import Image

from cutline.check import ERRORS, check_data, summarize, write_check_report
from cutline.check.images import (
    CHUNK_SIZE,
    ImageInfo,
    ImageProblem,
    inspect_image,
    inspect_images,
)
from cutline.data import Sample
from cutline.files import ImageRef


def test_a_clean_dataset_has_no_findings(clean: list[Sample]) -> None:
    result = check_data(clean)
    assert result.findings == []
    assert not result.has_errors
    assert (result.num_readable, result.captions.sum) == (8, 16)
    assert (result.words.minimum, result.words.maximum) == (4, 5)
    assert result.tokens is None
    assert "No problems." in summarize(result)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def replace_by_decompression_bomb(path: Path) -> None:
    path.write_bytes(encode(Image.new("1", (20_000, 10_000)), "PNG"))


PROBLEMS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no file": ("missing", lambda path: path.unlink()),
    "broken link": ("missing", replace_by_broken_link),
    "empty file": ("unreadable", lambda path: path.write_bytes(b"")),
    "HTML": ("unreadable", lambda path: path.write_text("<html>404</html>")),
    "truncated": ("unreadable", truncate),
    "folder": ("unreadable", replace_by_folder),
    "decompression bomb": ("unreadable", replace_by_decompression_bomb),
    "tiny": ("tiny", lambda path: make_photo(99, (40, 31)).save(path)),
    "wide": ("extreme_aspect", lambda path: make_photo(99, (400, 90)).save(path)),
    "tall": ("extreme_aspect", lambda path: make_photo(99, (90, 400)).save(path)),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_each_problem_of_an_image_is_reported_and_nothing_else(
    clean: list[Sample], problem: str
) -> None:
    kind, damage = PROBLEMS[problem]
    damage(Path(str(clean[3].image)))
    result = check_data(clean)
    assert kinds_and_names(result) == [(kind, "3.png")]
    assert result.has_errors == (kind in ERRORS)
    assert "3.png" in summarize(result)


class Killer(ImageRef):
    """An image that ends the process that reads it."""

    def read(self) -> bytes:
        os._exit(1)

    def __str__(self) -> str:
        return "killer\n.png"


@pytest.mark.slow
def test_an_image_that_kills_processes_is_unreadable(clean: list[Sample]) -> None:
    sources = [clean[0].image, Killer(), clean[1].image]
    results = list(inspect_images(sources, num_workers=1))
    problem = results.pop(1)
    assert isinstance(problem, ImageProblem)
    assert (problem.kind, problem.message.partition(" (")[0]) == (
        "unreadable",
        r"killer\n.png: cannot be opened",
    )
    assert results == list(inspect_images([clean[0].image, clean[1].image]))


def test_a_path_inside_a_file_is_missing_and_an_invalid_path_is_unreadable(
    clean: list[Sample],
) -> None:
    paths = [f"{clean[0].image}/inside.png", "nul\0.png", "x" * 5000]
    result = check_data([*clean, *(Sample(path, ("a thing",), path) for path in paths)])
    assert [row.kind for row in result.findings] == ["missing", "unreadable", "unreadable"]


@dataclass(frozen=True)
class ShardMember(ImageRef):
    data: bytes
    name: str

    def __str__(self) -> str:
        return f"shard.tar/{self.name}"

    def read(self) -> bytes:
        return self.data


def as_bytes(data: bytes, name: str) -> bytes:
    return data


@pytest.mark.parametrize(("wrap", "name"), [(as_bytes, "2"), (ShardMember, "shard.tar/2")])
def test_images_may_be_bytes_or_parts_of_files(
    clean: list[Sample], wrap: Callable[[bytes, str], bytes | ImageRef], name: str
) -> None:
    samples = [
        replace(sample, image=wrap(Path(str(sample.image)).read_bytes(), sample.id))
        for sample in clean
    ]
    assert check_data(samples).findings == []
    samples[2] = replace(samples[2], image=wrap(b"broken", "2"))
    result = check_data([*samples, replace(samples[0], image=clean[0].image)])
    assert [row.kind for row in result.findings] == ["unreadable", "duplicate"]
    assert result.findings[0].image == name


def test_file_names_may_be_invalid_utf8(clean: list[Sample], tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    try:
        Path(name).write_bytes(b"no image")
    except OSError:
        pytest.skip("this file system accepts only UTF-8 names")
    result = check_data([*clean, Sample(name, ("a \ud800 thing",), "x")])
    assert [row.kind for row in result.findings] == ["unreadable", "broken_text"]
    assert "caf\\udce9.png" in summarize(result)
    summarize(result).encode()
    write_check_report(tmp_path / "report.html", result)
    assert "caf\\udce9.png" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_unusual_attributes_are_counted() -> None:
    rotated = Image.Exif()
    rotated[274] = 6
    gray16 = np.asarray(make_photo(3).convert("L")).astype(np.uint16) * 257
    files = {
        "grayscale": encode(make_photo(1).convert("L")),
        "CMYK": encode(make_photo(2).convert("CMYK")),
        "with 16 bits or more": encode(Image.fromarray(gray16), "PNG"),
        "transparent": encode(make_photo(4).convert("RGBA"), "PNG"),
        "with several frames": encode(
            make_photo(5), "WEBP", save_all=True, append_images=[make_photo(6)]
        ),
        "rotated by EXIF": encode(make_photo(7), exif=rotated),
    }
    result = check_data([Sample(data, ("a thing",), name) for name, data in files.items()])
    assert result.attributes == dict.fromkeys(files, 1)
    assert result.findings == []
    info = inspect_image(files["rotated by EXIF"])
    assert isinstance(info, ImageInfo)
    assert (info.width, info.height) == (64, 96)


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_images_are_inspected_in_order_and_in_chunks(num_workers: int) -> None:
    requested = []

    def make_sources() -> Iterator[bytes]:
        for number in range(2 * CHUNK_SIZE + 3):
            requested.append(number)
            yield encode(Image.new("RGB", (number + 1, 1)), "PNG") if number % 5 else b"broken"

    infos = inspect_images(make_sources(), num_workers)
    assert isinstance(next(infos), ImageProblem)
    assert len(requested) == CHUNK_SIZE
    widths = [info.width if isinstance(info, ImageInfo) else None for info in infos]
    expected = [number + 1 if number % 5 else None for number in range(1, 2 * CHUNK_SIZE + 3)]
    assert widths == expected


def test_ctrl_c_stops_the_threads(clean: list[Sample]) -> None:
    def interrupt(items: object, total: int, description: str) -> object:
        assert total == 8
        yield next(items)
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        check_data(clean, progress=interrupt)
    assert threading.active_count() == before
