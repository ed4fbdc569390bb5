"""New tar shards of images that come from anywhere."""

import json
import pickle
import random
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from fake_engine import FakeEngine, caption_text
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shard_runs import (
    FinishedRun,
    read_all,
    read_files,
    read_tar,
    run,
    run_killed,
)
from tars import write_tar
from web_server import WebServer, send

from cutline.bulk.held_image import hold_sample
from cutline.bulk.job import Result
from cutline.bulk.manifest import Manifest
from cutline.bulk.new_shards import NewShardOutput
from cutline.bulk.run import CaptionRun
from cutline.bulk.shard_groups import find_image_extension, make_key
from cutline.config import RunConfig, UrlPolicy
from cutline.data import Sample
from cutline.data.urls import UrlImage
from cutline.errors import DataError

LOCAL = UrlPolicy(allow_private_hosts=("127.0.0.1",))


def caption_files(
    source: Path, out: Path, shard_size: int | None = 4, stop_after: int = -1
) -> FinishedRun:
    """Caption the images in a folder."""
    output = NewShardOutput(out, ".txt", shard_size)
    return run(output, state_of(out), read_files(source), stop_after=stop_after)


def caption_samples(samples: list[Sample], out: Path, **options: object) -> FinishedRun:
    """Caption samples."""
    output = NewShardOutput(out, "txt", 4)
    return run(output, state_of(out), iter(samples), **options)


def state_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.state")


def write_images(folder: Path, names: list[str], content: str = "") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} {content}")


def read_rows(out: Path) -> dict[str, tuple[str, bytes, str]]:
    """Return key, image and caption of each id; each must be there once."""
    rows = {}
    for path in [out] if out.suffix == ".tar" else sorted(out.glob("*.tar")):
        members = read_all(path)
        for name in filter(lambda name: name.endswith(".json"), members):
            key, row = name.removesuffix(".json"), json.loads(members[name])
            assert row["id"] not in rows
            (image,) = (
                data
                for name, data in members.items()
                if name.rpartition(".")[0] == key and not name.endswith((".json", ".txt"))
            )
            assert members[f"{key}.txt"].decode() == row["caption"]
            rows[row["id"]] = (f"{path.name}/{key}", image, row["caption"])
    return rows


def check(source: Path, out: Path) -> dict[str, tuple[str, bytes, str]]:
    """Check that each image is there with its caption, and return the rows."""
    rows = read_rows(out)
    files = {sample.id: Path(str(sample.image)).read_bytes() for sample in read_files(source)}
    assert {id: image for id, (_, image, _) in rows.items()} == files
    assert all(caption == caption_text(image) for _, image, caption in rows.values())
    assert not (state_of(out) / "temporary").exists()
    return rows


# ---------------------------------------------------------------------------------------- contents


def read_with_webdataset(shard: Path) -> list[dict[str, bytes]]:
    tariterators = pytest.importorskip("webdataset.tariterators")
    with shard.open("rb") as stream:
        source = [{"url": str(shard), "stream": stream}]
        return list(tariterators.group_by_keys(tariterators.tar_file_expander(source)))


def test_webdataset_reads_the_shards(tmp_path: Path) -> None:
    write_images(tmp_path / "in", ["a.jpg", "a.png", "b.c/x.y.webp", "d e", "é.JPG"])
    caption_files(tmp_path / "in", tmp_path / "out", shard_size=10)
    samples = read_with_webdataset(tmp_path / "out" / "00000.tar")
    keys = [sample["__key__"] for sample in samples]
    assert {*keys} - {"a_jpg", "a_png"} == {"a", "b.c/x_y", "d e", "é"}
    for sample in samples:
        row = json.loads(sample["json"])
        (image,) = (sample[each] for each in ("jpg", "png", "webp") if each in sample)
        assert sample["txt"].decode() == row["caption"] == caption_text(image)
        assert image == (tmp_path / "in" / row["id"]).read_bytes()
        assert row["image"] == str(tmp_path / "in" / row["id"])
    assert len(read_tar(str(tmp_path / "out" / "00000.tar"))) == 5


def test_all_columns_are_carried_along(tmp_path: Path) -> None:
    sample = Sample(b"A", ("a dog",), "x\udcff/1.jpg", url="https://host/1.jpg")
    caption_samples([sample], tmp_path / "out")
    members = read_all(tmp_path / "out" / "00000.tar")
    row = json.loads(members["x\udcff/1.json"])
    assert row.pop("score") == -1.5
    assert row == {
        "image": "x\udcff/1.jpg",
        "id": "x\udcff/1.jpg",
        "caption": caption_text(b"A"),
        "confidence": 0.0,
        "url": "https://host/1.jpg",
        "original_captions": ["a dog"],
    }


def test_images_of_every_kind(tmp_path: Path) -> None:
    png = BytesIO()
    Image.new("RGB", (2, 2)).save(png, "PNG")
    shard = write_tar(tmp_path / "s.tar", {"0.webp": "W", "1.jpg": "J"})
    (tmp_path / "photo.jfif").write_bytes(b"P")
    samples = [
        *read_tar(shard),
        Sample(png.getvalue(), (), "row 1"),
        Sample(b"B", (), "row.bmp"),
        Sample(str(tmp_path / "photo.jfif"), (), "other"),
    ]
    caption_samples(samples, tmp_path / "out")
    members = {n for path in (tmp_path / "out").glob("*.tar") for n in read_all(path)}
    images = {name for name in members if not name.endswith((".txt", ".json"))}
    assert images == {"s.tar/0.webp", "s.tar/1.jpg", "row 1.png", "row.bmp", "other.jfif"}


@given(st.lists(st.text(st.characters() | st.sampled_from("./\\ \0\nab")), unique=True))
def test_keys_are_unique_and_can_be_read(ids: list[str]) -> None:
    ids = [*ids, "a.jpg", "a.png", "a.PNG", "../a.jpg", "a" * 5000, "b/" * 900, "x.tar.jpg", ".jpg"]
    keys: list[str] = []
    for id in dict.fromkeys(ids):
        key = make_key(id, keys)
        assert key not in keys
        assert "." not in key.rpartition("/")[2]
        assert "\n" not in key
        assert not key.startswith(("/", "../"))
        assert len(key.encode("utf-8", "surrogateescape")) < 1100
        keys.append(key)


def test_extension_of_an_image() -> None:
    assert find_image_extension("x/a.JPG", b"") == "jpg"
    assert find_image_extension("x/a.txt", b"no image") == "jpg"
    for format, extension in (("JPEG", "jpg"), ("TIFF", "tif"), ("WEBP", "webp"), ("PPM", "ppm")):
        file = BytesIO()
        Image.new("RGB", (2, 2)).save(file, format)
        assert find_image_extension("https://host/a?x=1", file.getvalue()) == extension


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9])
def test_shards_have_so_many_images_each(tmp_path: Path, count: int) -> None:
    (tmp_path / "in").mkdir()
    write_images(tmp_path / "in", [f"{n}.jpg" for n in range(count)])
    caption_files(tmp_path / "in", tmp_path / "out")
    sizes = [len(read_all(path)) // 3 for path in sorted((tmp_path / "out").glob("*"))]
    assert sizes == [4] * (count // 4) + [count % 4] * bool(count % 4)
    check(tmp_path / "in", tmp_path / "out")


def test_parts_have_shards_of_their_own(tmp_path: Path) -> None:
    write_images(tmp_path / "in", [f"{n}.jpg" for n in range(20)])
    for number in range(3):
        output = NewShardOutput(tmp_path / "out", "txt", 4, f"-{number:05}-of-00003")
        config = RunConfig(part=f"{number}/3")
        run(output, tmp_path / f"state{number}", read_files(tmp_path / "in"), config)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"00000-00000-of-00003.tar", "00000-00002-of-00003.tar"} <= names
    check(tmp_path / "in", tmp_path / "out")


# ------------------------------------------------------------------------------------------ changes


@pytest.mark.parametrize("shard_size", [4, None])
def test_changed_added_and_removed_images(tmp_path: Path, shard_size: int | None) -> None:
    source, out = tmp_path / "in", tmp_path / ("out" if shard_size else "out.tar")
    write_images(source, [f"{n:02}.jpg" for n in range(11)])
    caption_files(source, out, shard_size)
    keys = {id: key for id, (key, _, _) in check(source, out).items()}
    shards = sorted(out.glob("*.tar")) if shard_size else [out]
    times = [path.stat().st_mtime_ns for path in shards]
    assert caption_files(source, out, shard_size).counts.captioned == 0
    assert [path.stat().st_mtime_ns for path in shards] == times  # as they were

    write_images(source, ["05.jpg", "00 new.jpg"], "other content")
    (source / "09.jpg").unlink()
    assert caption_files(source, out, shard_size).counts.captioned == 2
    rows = check(source, out)
    assert {id: key for id, (key, _, _) in rows.items() if id in keys} == {
        id: key for id, key in keys.items() if id != "09.jpg"
    }
    if shard_size:
        shard = keys["05.jpg"].partition("/")[0]
        unchanged = {path.name for path in shards[:2]} - {shard, keys["09.jpg"].partition("/")[0]}
        for path, old in zip(shards, times, strict=True):
            assert (path.stat().st_mtime_ns == old) == (path.name in unchanged)

    (source / "09.jpg").write_text("back again")
    (source / "05.jpg").write_text("")  # cannot be captioned any more
    caption_files(source, out, shard_size)
    (source / "05.jpg").unlink()
    check(source, out)


def test_shard_whose_images_are_gone_is_removed(tmp_path: Path) -> None:
    names = [f"{n}.jpg" for n in range(6)]
    write_images(tmp_path / "in", names)
    caption_files(tmp_path / "in", tmp_path / "out")
    for sample in list(read_files(tmp_path / "in")):
        if read_rows(tmp_path / "out")[sample.id][0].startswith("00000.tar"):
            Path(str(sample.image)).unlink()
            if len(list((tmp_path / "in").iterdir())) == 2:
                break
    caption_files(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["00001.tar"]
    check(tmp_path / "in", tmp_path / "out")


def test_removed_and_changed_shards_are_written_again(tmp_path: Path) -> None:
    write_images(tmp_path / "in", [f"{n:02}.jpg" for n in range(14)])
    caption_files(tmp_path / "in", tmp_path / "out")
    (tmp_path / "out" / "00001.tar").unlink()
    (tmp_path / "out" / "00002.tar").write_bytes(b"damaged")
    for path in (state_of(tmp_path / "out") / "shards").glob("00003*"):
        path.write_text("{damaged")
    assert caption_files(tmp_path / "in", tmp_path / "out").counts.captioned == 0
    check(tmp_path / "in", tmp_path / "out")


def test_shards_of_another_size_and_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    write_images(tmp_path / "in", [f"{n:02}.jpg" for n in range(14)])
    caption_files(tmp_path / "in", tmp_path / "out", shard_size=2)
    (tmp_path / "out" / "00042.tar").write_bytes(b"")
    for other in ("00042.tar.gz", "notes.tar", "00042-00001-of-00002.tar"):
        (tmp_path / "out" / other).write_bytes(b"")
    caption_files(tmp_path / "in", tmp_path / "out", shard_size=5)
    for other in ("00042.tar.gz", "notes.tar", "00042-00001-of-00002.tar"):
        (tmp_path / "out" / other).unlink()
    assert len(list((tmp_path / "out").iterdir())) == 3
    check(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("as_bytes", [False, True])
def test_image_that_vanishes_is_left_out_and_reported(tmp_path: Path, as_bytes: bool) -> None:
    write_images(tmp_path / "in", [f"{n}.jpg" for n in range(6)])

    def samples() -> Iterator[Sample]:
        for sample in read_files(tmp_path / "in"):
            path = Path(str(sample.image))
            yield Sample(path.read_bytes(), (), sample.id) if as_bytes else sample
        (tmp_path / "in" / "0.jpg").unlink()
        (tmp_path / "in" / "1.jpg").write_text("changed")

    output = NewShardOutput(tmp_path / "out", "txt", 6)
    finished = run(output, state_of(tmp_path / "out"), samples())
    rows = read_rows(tmp_path / "out")
    assert len(rows) == (6 if as_bytes else 4)
    reported = {failure.id: failure for failure in finished.failures}
    assert set(reported) == (set() if as_bytes else {"0.jpg", "1.jpg"})
    assert finished.counts.failed == len(reported)
    assert all(failure.kind == "image" for failure in reported.values())
    assert all("left out of the shard" in failure.reason for failure in reported.values())
    assert not caption_files(tmp_path / "in", tmp_path / "out", 6).failures
    check(tmp_path / "in", tmp_path / "out")


def test_address_that_fails_later_is_reported_by_every_run(tmp_path: Path) -> None:
    with WebServer() as server:
        image = UrlImage(server.url("/0"), LOCAL)
        server.answers["/0"] = send(b"image")
        assert not caption_samples([Sample(image, (), "0")], tmp_path / "out").failures
        (tmp_path / "out" / "00000.tar").unlink()
        server.answers["/0"] = send(status=404)
        for _ in range(2):
            finished = caption_samples([Sample(image, (), "0")], tmp_path / "out")
            (failure,) = finished.failures
            assert (failure.id, finished.counts.failed) == ("0", 1)
            assert "404" in failure.reason
            assert not read_rows(tmp_path / "out")


def test_shard_has_the_image_that_was_captioned(tmp_path: Path) -> None:
    names = [f"{n}.jpg" for n in range(6)]
    with WebServer() as server, Manifest(state_of(tmp_path / "out")) as manifest:
        for name in names:  # each answer is another image
            server.answers[f"/{name}"] = [send(f"{name} {n}".encode()) for n in range(3)]
        samples = [Sample(UrlImage(server.url(f"/{name}"), LOCAL), (), name) for name in names]
        output = NewShardOutput(tmp_path / "out", "txt", 4)

        def engine(samples: Iterator[Sample]) -> Iterator[tuple[Sample, Result]]:
            return FakeEngine()(map(output.prepare, samples))

        CaptionRun(manifest, output).run(samples, engine)
        assert len(server.requests) == 6
    rows = read_rows(tmp_path / "out")
    assert {id: image for id, (_, image, _) in rows.items()} == {
        name: f"{name} 0".encode() for name in names
    }
    assert all(caption == caption_text(image) for _, image, caption in rows.values())
    assert not (state_of(tmp_path / "out") / "temporary").exists()


def test_image_is_fetched_again_where_no_copy_can_be_kept(tmp_path: Path) -> None:
    with WebServer() as server:
        server.answers["/0"] = send(b"image")
        image = UrlImage(server.url("/0"), LOCAL)
        held = hold_sample(Sample(image, (), "0"), tmp_path / "temporary" / "0")
        (tmp_path / "temporary").rmdir()  # as on another machine
        saved = pickle.loads(pickle.dumps(held.image))
        assert (str(saved), saved.stamp()) == (str(image), "")
        assert saved.read() == held.read("") == b"image"
        assert len(server.requests) == 2


def test_records_of_a_part_whose_number_is_used_again(tmp_path: Path) -> None:
    state = state_of(tmp_path / "out")
    sizes = []
    for version in range(2):
        samples = [Sample(b"%d version %d" % (n, version), (), f"{n}.jpg") for n in range(8)]
        assert caption_samples(samples, tmp_path / "out").counts.captioned == 8
        images = {id: image for id, (_, image, _) in read_rows(tmp_path / "out").items()}
        assert images == {sample.id: sample.image for sample in samples}
        (part,) = state.glob("part-*")
        sizes.append(part.stat().st_size)
        part.unlink()  # as the message for a damaged part says
    assert sizes[0] == sizes[1]  # so that records are at the same positions


def test_few_images_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutline.bulk.parts.MAX_PART_RECORDS", 50)
    held: list[int] = []
    output = NewShardOutput(tmp_path / "out", "txt", 100)

    def samples() -> Iterator[Sample]:
        for number in range(1000):
            yield Sample(b"%d" % number, (), f"{number}.jpg")
            held.append(len(output._held) + len(output._arriving))
            if number % 10 == 0:
                copies = list((state_of(tmp_path / "out") / "temporary").iterdir())
                assert len(copies) <= held[-1] + 1

    run(output, state_of(tmp_path / "out"), samples())
    assert len(read_rows(tmp_path / "out")) == 1000
    assert max(held) < 500  # those of a shard, of the next part, and of shards being written


# -------------------------------------------------------------------------------------------- stops


@settings(max_examples=25)
@given(data=st.data(), shard_size=st.sampled_from([1, 3, 4, None]), as_bytes=st.booleans())
def test_any_sequence_of_runs_ends_with_every_image_once(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    shard_size: int | None,
    as_bytes: bool,
) -> None:
    """Stop runs anywhere; meanwhile change the source, lose outputs, or what is known of them."""
    folder = tmp_path_factory.mktemp("runs")
    source, out = folder / "in", folder / ("out" if shard_size else "out.tar")
    write_images(source, [f"{n}.jpg" for n in range(9)])

    def caption(stop_after: int) -> None:
        samples = read_files(source)
        if as_bytes:
            samples = (Sample(Path(str(s.image)).read_bytes(), (), s.id) for s in samples)
        output = NewShardOutput(out, "txt", shard_size)
        run(output, state_of(out), samples, stop_after=stop_after)

    for step in range(data.draw(st.integers(1, 4))):
        caption(data.draw(st.integers(0, 10)))
        if out.exists():
            read_rows(out)  # all whole, and every image once at most
        for name in data.draw(st.lists(st.sampled_from([f"{n}.jpg" for n in range(12)]))):
            action = data.draw(st.sampled_from(["change", "empty", "remove"]))
            if action == "remove":
                (source / name).unlink(missing_ok=True)
            else:
                (source / name).write_text(f"{name} {step}" if action == "change" else "")
        lost = [*out.glob("*.tar"), *(state_of(out) / "shards").glob("*")]
        if lost and data.draw(st.booleans()):
            data.draw(st.sampled_from(sorted(lost))).unlink()
    for path in list(source.iterdir()):
        if not path.read_bytes():
            path.unlink()
    caption(-1)
    check(source, out)


@pytest.mark.parametrize("shard_size", [4, None])
def test_last_shard_is_written_at_every_stop(tmp_path: Path, shard_size: int | None) -> None:
    source, out = tmp_path / "in", tmp_path / ("out" if shard_size else "out.tar")
    write_images(source, [f"{n:02}.jpg" for n in range(20)])
    for stop_after, count in ((3, 3), (0, 3), (6, 9), (20, 20)):
        caption_files(source, out, shard_size, stop_after=stop_after)
        assert len(read_rows(out)) == count
    check(source, out)


def test_full_disk_ends_the_run(
    tmp_path: Path, limit_file_size: Callable[[int | None], None]
) -> None:
    write_images(tmp_path / "in", [f"{n:02}.jpg" for n in range(10)], "x" * 4000)
    limit_file_size(20_000)
    with pytest.raises(DataError, match=r"0000\d\.tar: cannot be written \(File too large\)"):
        caption_files(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out" / "00000.tar").exists()
    limit_file_size(None)
    assert caption_files(tmp_path / "in", tmp_path / "out").counts.captioned == 0
    check(tmp_path / "in", tmp_path / "out")


def test_limit_leaves_the_rest(tmp_path: Path) -> None:
    write_images(tmp_path / "in", [f"{n:02}.jpg" for n in range(10)])
    output = NewShardOutput(tmp_path / "out", "txt", 4)
    run(output, state_of(tmp_path / "out"), read_files(tmp_path / "in"), RunConfig(limit=6))
    assert len(read_rows(tmp_path / "out")) == 6
    caption_files(tmp_path / "in", tmp_path / "out")
    check(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 3), *(pytest.param(n, 25, marks=pytest.mark.slow) for n in (1, 2, 3))]
)
@pytest.mark.parametrize("shard_size", [4, None])
def test_killed_at_any_file_operation(
    tmp_path: Path, seed: int, kills: int, shard_size: int | None
) -> None:
    source, out = tmp_path / "in", tmp_path / ("out" if shard_size else "out.tar")
    write_images(source, [f"{n:02}.jpg" for n in range(14)])
    rng = random.Random(seed)
    for operation in [rng.randint(1, 60) for _ in range(kills)]:
        run_killed(operation, caption_files, source, out, shard_size)
        if out.exists():
            read_rows(out)  # all whole, and every image once at most
        write_images(source, [f"{rng.randrange(20):02}.jpg"], f"{operation}")
    run_killed(0, caption_files, source, out, shard_size)
    check(source, out)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


def test_real_captioner(tmp_path: Path) -> None:
    from random_captioner import draw_images, make_captioner

    from cutline.bulk.engine import CaptionJob, Models, caption_samples

    (tmp_path / "in").mkdir()
    for number, image in enumerate(draw_images(10)):
        image.save(tmp_path / "in" / f"{number}.png")
    captioner, job = make_captioner(), CaptionJob("")
    for limit in (6, 0):
        with Manifest(state_of(tmp_path / "out")) as manifest:
            output = NewShardOutput(tmp_path / "out", "txt", 4)
            caption_run = CaptionRun(manifest, output, RunConfig(limit=limit))
            caption_run.run(
                read_files(tmp_path / "in"),
                lambda each: caption_samples(Models(captioner), job, each),
            )
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 10
    for id, (_, image, caption) in rows.items():
        assert image == (tmp_path / "in" / id).read_bytes()
        assert caption == captioner.caption(tmp_path / "in" / id)[0].text
    assert output.describe() == [f"{tmp_path / 'out'}: 2 shards written"]
