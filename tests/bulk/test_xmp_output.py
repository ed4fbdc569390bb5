"""XMP sidecars beside images or in a folder: only the description changes, and only once."""

from pathlib import Path

import pytest
from bulk_outputs import Caption, Captions
from bulk_sources import Images
from fake_engine import FakeEngine, caption_text
from xmp_sidecars import DARKTABLE, DIGIKAM, SIDECARS

from cutline.bulk.manifest import Manifest
from cutline.bulk.record import Failure
from cutline.bulk.run import CaptionRun
from cutline.bulk.state import remove_state
from cutline.bulk.text_output import TextOutput
from cutline.config import Existing
from cutline.data import Sample
from cutline.data.xmp import read_descriptions, replace_description

IMAGES = ("a.jpg", "a.png", "b.jpg", "sub/c.d.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in IMAGES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "photos"


def run(
    images: Path, existing: Existing = "skip", engine: FakeEngine | None = None
) -> tuple[CaptionRun, list[Failure]]:
    """Caption the images; return the run, and what failed."""
    samples = [Sample(str(images / name), (), name) for name in IMAGES]
    with Manifest(images / ".cutline") as manifest:
        caption_run = CaptionRun(manifest, TextOutput(None, images, ".xmp", existing))
        caption_run.run(samples, engine or FakeEngine())
        return caption_run, list(caption_run.iter_failures())


def read(folder: Path) -> dict[str, str]:
    """Return the descriptions by the names of images."""
    return {
        path.relative_to(folder).as_posix().removesuffix(".xmp"): read_descriptions(
            path.read_bytes(), str(path)
        ).get("x-default", "")
        for path in sorted(folder.rglob("*.xmp"))
    }


def text_of(name: str) -> str:
    return caption_text(name.encode())


def test_sidecars_have_the_whole_name_of_their_image(folder: Path) -> None:
    run(folder)
    assert read(folder) == {name: text_of(name) for name in IMAGES}


@pytest.mark.parametrize(
    ("existing", "lines"),
    [
        ("skip", ["Am Strand", "mit Hund"]),
        ("overwrite", ["{}"]),
        ("append", ["Am Strand", "mit Hund", "{}"]),
        ("prepend", ["{}", "Am Strand", "mit Hund"]),
    ],
)
def test_existing_descriptions(folder: Path, existing: Existing, lines: list[str]) -> None:
    (folder / "a.jpg.xmp").write_text(DIGIKAM, "utf-8")
    (folder / "b.jpg.xmp").write_text(DARKTABLE, "utf-8")  # without a description
    counts = run(folder, existing)[0].counts
    assert counts.existing == (existing == "skip")
    text = "\n".join(lines)
    for _ in range(2):  # once is enough
        expected = replace_description(DIGIKAM.encode(), text.format(text_of("a.jpg")), "")
        if existing == "skip":
            expected = DIGIKAM.encode()
        assert (folder / "a.jpg.xmp").read_bytes() == expected
        assert (folder / "b.jpg.xmp").read_bytes() == replace_description(
            DARKTABLE.encode(), text_of("b.jpg"), ""
        )
        engine = FakeEngine()
        run(folder, existing, engine)
        assert engine.ids == []
    (folder / "a.jpg").write_bytes(b"changed")
    run(folder, existing)
    assert read(folder)["a.jpg"] == text.format(caption_text(b"changed"))


@pytest.mark.parametrize("existing", ["skip", "overwrite", "append", "prepend"])
@pytest.mark.parametrize("name", SIDECARS)
def test_a_new_run_restores_every_byte(folder: Path, existing: Existing, name: str) -> None:
    before = SIDECARS[name].replace("\n", "\r\n").encode()
    for image in ("a.jpg", "b.jpg"):
        (folder / f"{image}.xmp").write_bytes(before)
    (folder / "a.png.xmp").write_bytes(b"\xef\xbb\xbf" + before.lstrip(b"\xef\xbb\xbf"))
    paths = [folder / f"{image}.xmp" for image in ("a.jpg", "a.png")]
    contents = [path.read_bytes() for path in paths]
    run(folder, existing)
    (folder / "a.jpg").write_bytes(b"changed")
    run(folder, existing)
    rated = (folder / "b.jpg.xmp").read_bytes().replace(b"x:xmptk", b"x:rated='' x:xmptk")
    (folder / "b.jpg.xmp").write_bytes(rated + b" ")  # by a photo manager, later
    remove_state(folder / ".cutline", TextOutput(None, folder, ".xmp", existing).forget)
    assert [path.read_bytes() for path in paths] == contents
    assert (folder / "b.jpg.xmp").read_bytes() == rated + b" "
    assert not (folder / "sub" / "c.d.jpg.xmp").exists()


@pytest.mark.parametrize("existing", ["skip", "overwrite", "append", "prepend"])
def test_broken_sidecars_are_listed_and_left_alone(folder: Path, existing: Existing) -> None:
    broken = {
        "a.jpg.xmp": DARKTABLE[:500].encode(),
        "b.jpg.xmp": b"<!DOCTYPE x [<!ENTITY a SYSTEM '/etc/passwd'>]>" + DARKTABLE[39:].encode(),
    }
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    _, failures = run(folder, existing)
    assert [failure.id for failure in failures] == ["a.jpg", "b.jpg"]
    for failure in failures:
        assert failure.reason.startswith(f"{folder / failure.id}.xmp: not XML that can be changed")
    for name, content in broken.items():
        assert (folder / name).read_bytes() == content
    assert (folder / "a.png.xmp").exists()


def test_the_command_writes_beside_images_and_in_a_folder(
    images: Images, caption: Caption, plain_captions: Captions
) -> None:
    images.link("photos/a", "photos/b")
    photos = images.folder / "photos"
    expected = {
        path.relative_to(photos).as_posix(): plain_captions[path.stem]
        for path in photos.rglob("*.png")
    }
    out = images.folder / "out"
    assert caption(photos, "-o", ".xmp")[0] == 0
    assert caption(photos, "-o", f"{out}/", "--caption-extension", "xmp")[0] == 0
    assert read(photos) == read(out) == expected
    code, _, err = caption(photos, "-o", ".xmp", "--num-beams", "2")
    assert code == 2
    assert ".cutline/xmp: the run there has other settings" in err
    assert caption(photos, "-o", ".xmp", "--new-run", "--min-confidence", "0.99")[0] == 0
    assert read(photos) == {}


def test_shards_have_no_sidecars(images: Images, caption: Caption) -> None:
    images.link("photos")
    for out, more in (("out/", ["--folder-format", "shards"]), ("out.tar", [])):
        words = (images.folder / "photos", "-o", out, *more, "--caption-extension", ".xmp")
        code, _, err = caption(*words)
        assert code == 2
        assert "caption_extension .xmp is not for shards" in err
