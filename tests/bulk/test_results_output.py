"""Captions as COCO's results, the form in which COCO's and NoCaps' servers take them."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from bulk_outputs import Caption, Captions, find_name
from fake_engine import FakeEngine, caption_text

from cutline.bulk.destination import Destination
from cutline.bulk.dispatch import make_selection_output
from cutline.bulk.manifest import Manifest
from cutline.bulk.output import ResultsOutput
from cutline.bulk.run import CaptionRun
from cutline.bulk.sources import Collection
from cutline.config import OutputConfig
from cutline.data import Sample
from cutline.errors import ConfigError, CutlineError, DataError


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    samples = []
    for number in range(20):
        path = tmp_path / f"{number:02}.jpg"
        path.write_bytes(f"image {number}".encode())
        samples.append(Sample(str(path), (), str(700 - number)))
    return samples


def run(folder: Path, samples: Iterable[Sample | CutlineError], engine: FakeEngine) -> CaptionRun:
    with Manifest(folder / "state") as manifest:
        caption_run = CaptionRun(manifest, ResultsOutput(folder / "results.json"))
        caption_run.run(samples, engine)
        return caption_run


def read(folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads((folder / "results.json").read_bytes())
    return rows


def expect(samples: Iterable[Sample]) -> list[dict[str, object]]:
    return [
        {"image_id": int(sample.id), "caption": caption_text(Path(sample.name).read_bytes())}
        for sample in samples
    ]


def test_a_stopped_run_goes_on(samples: list[Sample], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, samples, FakeEngine(stop_after=8))
    assert len(read(tmp_path)) == 8
    engine = FakeEngine(seed=1)
    run(tmp_path, samples, engine)
    assert len(engine.ids) == 12
    assert read(tmp_path) == expect(samples)


def test_failed_images_are_missing(samples: list[Sample], tmp_path: Path) -> None:
    Path(samples[3].name).write_bytes(b"")
    counts = run(tmp_path, samples, FakeEngine()).counts
    assert (counts.captioned, counts.failed) == (19, 1)
    assert read(tmp_path) == expect(samples[:3] + samples[4:])
    Path(samples[3].name).write_bytes(b"repaired")
    run(tmp_path, samples, FakeEngine())
    assert read(tmp_path) == expect(samples)


def test_an_image_that_was_renamed_is_written_once(samples: list[Sample], tmp_path: Path) -> None:
    """Also by runs that cannot read everything, which keep captions of images not seen."""
    run(tmp_path, samples, FakeEngine())
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        renamed = tmp_path / folder / "new.jpg"
        renamed.write_bytes(b"image in " + folder.encode())
        sample = Sample(str(renamed), (), samples[5].id)
        run(tmp_path, [sample, *samples[:3], DataError("row 5: not an object")], FakeEngine())
        expected = expect([*samples[:5], sample, *samples[6:]])
        assert sorted(read(tmp_path), key=str) == sorted(expected, key=str)


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("a.jpg", "the id 'a.jpg' is not an integer, as `image_id` in .* must be; write results.j"),
        ("000000000700.jpg", r"00.jpg and .*new.jpg have the same image_id, 700; make ids unique"),
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_ids_are_checked_when_they_are_read(
    samples: list[Sample], tmp_path: Path, id: str, message: str, first: bool
) -> None:
    run(tmp_path, samples, FakeEngine())
    sample = Sample(str(tmp_path / "new.jpg"), (), id)
    engine = FakeEngine()
    with pytest.raises(ConfigError, match=message if not first or id == "a.jpg" else "image_id"):
        run(tmp_path, [sample, *samples] if first else [*samples, sample], engine)
    assert engine.ids == []
    rows = sorted(read(tmp_path), key=str, reverse=True)
    assert rows == expect(samples)


def test_a_list_of_images_becomes_a_submission(
    scenes: list[Path], plain_captions: Captions, tmp_path: Path, caption: Caption
) -> None:
    """The list has the form of nocaps_test_image_info.json; one of its images is missing."""
    images = [
        {"id": 9 * n, "file_name": path.name, "coco_url": f"https://x/{n}", "open_images_id": "0"}
        for n, path in enumerate(scenes)
    ]
    images.append({"id": 4500, "file_name": "gone.jpg"})
    data, results = tmp_path / "nocaps.json", tmp_path / "results.json"
    data.write_text(json.dumps({"licenses": [], "info": {}, "images": images}))
    words = (data, "--image-root", scenes[0].parent, "-o", results)
    code, out, err = caption(*words)
    assert (code, out) == (3, "")
    assert f"{results}: 12 captions" in err
    names = [find_name(str(image["file_name"])) for image in images[:-1]]
    assert read(tmp_path) == [
        {"image_id": 9 * n, "caption": plain_captions[name]} for n, name in enumerate(names)
    ]
    failures = (tmp_path / "results.json.failed.jsonl").read_text()
    assert json.loads(failures)["id"] == "4500"
    before = results.read_bytes()
    code, _, err = caption(*words)
    assert code == 3
    assert "captioned by an earlier run: 12" in err
    assert results.read_bytes() == before


def test_images_without_integers_are_refused(
    scenes: list[Path], tmp_path: Path, caption: Caption
) -> None:
    results = tmp_path / "results.json"
    code, out, err = caption(scenes[0].parent, "-o", results)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "scene-000000.png' is not an integer, as `image_id` in" in err
    assert "write results.jsonl instead" in err
    assert list(tmp_path.iterdir()) == []


def test_images_are_known_by_their_coco_file_names(
    scenes: list[Path], plain_captions: Captions, tmp_path: Path, caption: Caption
) -> None:
    folder = tmp_path / "val2014"
    folder.mkdir()
    (folder / "COCO_val2014_000000000042.png").write_bytes(scenes[0].read_bytes())
    assert caption(folder, "-o", tmp_path / "results.json")[0] == 0
    text = plain_captions[find_name(scenes[0].name)]
    assert read(tmp_path) == [{"image_id": 42, "caption": text}]


def test_selected_texts_are_no_results(tmp_path: Path) -> None:
    """An image may have several of them."""
    destination = Destination("file", tmp_path / "kept.json")
    with pytest.raises(ConfigError, match=r"one caption of each image; write .* kept\.jsonl"):
        make_selection_output(destination, Collection([], tmp_path), OutputConfig())
