"""Images: each fault is found, and nothing else is."""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from checked import encoded, kinds, photo
from PIL import Image

from cutline.check import HARMFUL, check, summarize, write_check_report
from cutline.check.images import AT_ONCE, ImageInfo, ImageProblem, inspect_images, look
from cutline.data import Sample
from cutline.files import ImageRef


def test_a_clean_set_has_no_findings(clean: list[Sample]) -> None:
    found = check(clean)
    assert found.rows == []
    assert not found.harmful
    assert (found.num_readable, found.captions.sum, found.words.low, found.words.high) == (
        8,
        16,
        4,
        5,
    )
    assert found.tokens is None
    assert "Nothing is wrong." in summarize(found)


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
    "no image": ("unreadable", lambda path: path.write_text("<html>404</html>")),
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


def test_a_path_through_a_file_is_missing_and_an_impossible_one_unreadable(
    clean: list[Sample],
) -> None:
    strange = [f"{clean[0].image}/inside.png", "nul\0.png", "x" * 5000]
    found = check([*clean, *(Sample(path, ("a thing",), path) for path in strange)])
    assert [row.kind for row in found.rows] == ["missing", "unreadable", "unreadable"]


def test_bytes_and_parts_of_files_are_pictures_too(clean: list[Sample]) -> None:
    whole = [replace(sample, image=Path(str(sample.image)).read_bytes()) for sample in clean]
    parts = [
        replace(sample, image=Part(sample.image, sample.id))
        for sample in whole
        if isinstance(sample.image, bytes)
    ]
    for samples in (whole, parts):
        assert check(samples).rows == []
        broken = replace(samples[2], image=b"broken" if samples is whole else Part(b"broken", "2"))
        found = check(
            [*samples[:2], broken, *samples[3:], replace(samples[0], image=clean[0].image)]
        )
        assert [row.kind for row in found.rows] == ["unreadable", "duplicate"]
        assert found.rows[0].image == ("2" if samples is whole else "shard.tar/2")


@dataclass(frozen=True)
class Part(ImageRef):
    data: bytes
    name: str

    def __str__(self) -> str:
        return f"shard.tar/{self.name}"

    def read(self) -> bytes:
        return self.data


def test_names_that_are_not_utf8(clean: list[Sample], tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    try:
        Path(name).write_bytes(b"no image")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    found = check([*clean, Sample(name, ("a \ud800 thing",), "x")])
    assert [row.kind for row in found.rows] == ["unreadable", "broken_text"]
    assert "caf\\udce9.png" in summarize(found)
    summarize(found).encode()
    write_check_report(tmp_path / "sheet.html", found)
    assert "caf\\udce9.png" in (tmp_path / "sheet.html").read_text(encoding="utf-8")


def test_what_is_unusual_is_counted(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[274] = 6
    files = {
        "grey": encoded(photo(1).convert("L")),
        "CMYK": encoded(photo(2).convert("CMYK")),
        "of 16 bits or more": encoded(
            Image.fromarray(np.asarray(photo(3).convert("L")).astype(np.uint16) * 257), "PNG"
        ),
        "transparent": encoded(photo(4).convert("RGBA"), "PNG"),
        "of several frames": encoded(photo(5), "WEBP", save_all=True, append_images=[photo(6)]),
        "turned by EXIF": encoded(photo(7), exif=turned),
    }
    found = check([Sample(data, ("a thing",), name) for name, data in files.items()])
    assert found.traits == dict.fromkeys(files, 1)
    assert found.rows == []
    turned_look = look(files["turned by EXIF"])
    assert isinstance(turned_look, ImageInfo)
    assert (turned_look.width, turned_look.height) == (64, 96)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_looks_come_in_order_and_not_all_at_once(workers: int) -> None:
    asked = []

    def sources() -> object:
        for number in range(2 * AT_ONCE + 3):
            asked.append(number)
            yield encoded(Image.new("RGB", (number + 1, 1)), "PNG") if number % 5 else b"broken"

    looks = inspect_images(sources(), workers)  # type: ignore[arg-type]
    first = next(looks)
    assert isinstance(first, ImageProblem)
    assert len(asked) == AT_ONCE
    widths = [one.width if isinstance(one, ImageInfo) else None for one in looks]
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
