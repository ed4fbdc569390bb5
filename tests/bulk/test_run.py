"""A run captions what is missing, whatever happened before; the engine has no model here."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from fake_engine import FakeEngine, caption_text

from cutline.bulk.manifest import Manifest
from cutline.bulk.output import FileOutput
from cutline.bulk.record import Failure
from cutline.bulk.run import CaptionRun
from cutline.config import OutputConfig, RunConfig
from cutline.data import Sample
from cutline.errors import CutlineError, DataError


def write_images(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"image {name}".encode())


def list_samples(folder: Path) -> list[Sample | CutlineError]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [Sample(str(path), (), path.relative_to(folder).as_posix()) for path in paths]


class Case:
    """A folder of images, and runs that write their captions to captions.jsonl."""

    def __init__(self, folder: Path) -> None:
        self.images, self.out = folder / "images", folder / "captions.jsonl"

    def run(
        self,
        engine: FakeEngine,
        samples: Iterable[Sample | CutlineError] | None = None,
        outputs: OutputConfig | None = None,
        **settings: object,
    ) -> CaptionRun:
        samples = list_samples(self.images) if samples is None else samples
        with Manifest(self.out.with_name("state")) as manifest:
            config = RunConfig(**settings)  # type: ignore[arg-type]
            run = CaptionRun(manifest, FileOutput(self.out), config, outputs or OutputConfig())
            run.run(samples, engine)
            return run

    def rows(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.read_text().splitlines()]

    def check(self) -> None:
        """Check that the output has each image once, in order, with the caption of its content."""
        samples = list_samples(self.images)
        expected = [
            (sample.id, caption_text(Path(sample.name).read_bytes()))
            for sample in samples
            if isinstance(sample, Sample)
        ]
        assert [(row["id"], row["caption"]) for row in self.rows()] == expected


@pytest.fixture
def case(tmp_path: Path) -> Case:
    write_images(tmp_path / "images", [f"{number:03}.jpg" for number in range(60)])
    return Case(tmp_path)


def test_captions_everything_once_and_then_nothing(case: Case) -> None:
    case.run(FakeEngine(seed=1))
    case.check()
    first = case.out.read_bytes()
    engine = FakeEngine()
    counts = case.run(engine).counts
    assert (engine.ids, counts.done_before, counts.total) == ([], 60, 60)
    assert case.out.read_bytes() == first


def test_a_stopped_run_has_written_what_it_had(case: Case) -> None:
    with pytest.raises(KeyboardInterrupt):
        case.run(FakeEngine(stop_after=23))
    assert len(case.rows()) == 23
    engine = FakeEngine()
    assert case.run(engine).counts.captioned == 37 == len(engine.ids)
    case.check()


def test_any_number_of_stops_and_changes_end_with_one_caption_of_each_image(case: Case) -> None:
    rng = random.Random(3)
    for number in range(30):
        match rng.randrange(3):
            case 0:
                write_images(case.images, [f"new/{number}.jpg"])
            case 1:
                path = rng.choice(sorted(case.images.rglob("*.jpg")))
                path.write_bytes(path.read_bytes() + b"x" * rng.randint(1, 9))
            case 2:
                rng.choice(sorted(case.images.rglob("*.jpg"))).unlink()
        try:
            case.run(FakeEngine(number, stop_after=rng.randint(0, 8)))
        except KeyboardInterrupt:
            continue
    case.run(FakeEngine())
    case.check()


def test_captions_only_what_is_new_or_changed(case: Case) -> None:
    case.run(FakeEngine())
    write_images(case.images, ["000-a.jpg", "new/b.jpg"])
    (case.images / "007.jpg").write_bytes(b"another image")
    (case.images / "008.jpg").unlink()
    engine = FakeEngine()
    case.run(engine)
    assert sorted(engine.ids) == ["000-a.jpg", "007.jpg", "new/b.jpg"]
    case.check()


def test_a_caption_survives_while_its_image_is_away(case: Case) -> None:
    case.run(FakeEngine())
    samples = list_samples(case.images)
    case.run(FakeEngine(), samples[:10])
    assert len(case.rows()) == 10
    engine = FakeEngine()
    case.run(engine, samples)
    assert engine.ids == []
    case.check()


def test_failures_are_listed_and_not_repeated(case: Case) -> None:
    (case.images / "005.jpg").write_bytes(b"")
    heard: list[Failure] = []
    run = case.run(FakeEngine())
    assert (run.counts.captioned, run.counts.failed) == (59, 1)
    for retry, count in ((False, 0), (True, 1)):
        engine = FakeEngine()
        run = case.run(engine, retry_failed=retry)
        assert len(engine.ids) == count
        with run.manifest:
            heard = list(run.iter_failures())
        assert [(failure.id, failure.kind) for failure in heard] == [("005.jpg", "image")]
        assert "empty" in heard[0].reason
    (case.images / "005.jpg").write_bytes(b"repaired")
    assert case.run(FakeEngine()).counts.captioned == 1
    case.check()


def test_what_cannot_be_read_of_the_source_is_listed_and_keeps_other_captions(case: Case) -> None:
    case.run(FakeEngine())
    samples = list_samples(case.images)
    error = DataError("photos.csv, line 7: 2 cells for 3 columns; put quotes around them")
    run = case.run(FakeEngine(), [*samples[:20], error])
    assert [failure.id for failure in run.source_failures] == ["photos.csv, line 7"]
    assert run.counts.unreadable == 1
    assert len(case.rows()) == 60  # the rest of the table may return


def test_repeated_ids_are_captioned_once(case: Case) -> None:
    samples = list_samples(case.images)
    engine = FakeEngine()
    assert case.run(engine, [*samples, *samples]).counts.repeated == 60
    assert len(engine.ids) == 60
    case.check()


def test_parts_divide_the_collection(case: Case, tmp_path: Path) -> None:
    ids: list[str] = []
    for part in range(3):
        engine = FakeEngine()
        case.out = tmp_path / str(part) / "captions.jsonl"
        run = case.run(engine, part=f"{part}/3")
        assert run.counts.total == len(engine.ids) > 5
        ids += engine.ids
    assert sorted(ids) == [
        sample.id for sample in list_samples(case.images) if isinstance(sample, Sample)
    ]


def test_a_limit_counts_new_captions(case: Case) -> None:
    for total in (25, 50, 60):
        case.run(FakeEngine(), limit=25)
        assert len(case.rows()) == total
    case.check()


def test_another_prompt_is_another_caption(case: Case) -> None:
    image = str(case.images / "000.jpg")
    for prompt, count in (("a photo of", 1), ("a photo of", 0), ("a painting of", 1)):
        engine = FakeEngine()
        case.run(engine, [Sample(image, (), "0", prompt=prompt)])
        assert len(engine.ids) == count


def test_the_template_surrounds_the_caption(case: Case) -> None:
    outputs = OutputConfig(caption_template="{caption}, photo of sks dog {x}")
    case.run(FakeEngine(), outputs=outputs)
    text = caption_text(b"image 000.jpg")
    assert case.rows()[0]["caption"] == f"{text}, photo of sks dog {{x}}"


def test_columns_of_the_source_are_carried_along(case: Case) -> None:
    image = str(case.images / "000.jpg")
    sample = Sample(image, ("a dog", "a cat"), "42", url="https://example.org/a.jpg")
    case.run(FakeEngine(), [sample])
    assert case.rows() == [
        {
            "image": image,
            "id": "42",
            "caption": caption_text(b"image 000.jpg"),
            "score": -1.5,
            "confidence": 0.0,
            "url": "https://example.org/a.jpg",
            "original_captions": ["a dog", "a cat"],
        }
    ]


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(
    case: Case, limit_file_size: Callable[[int | None], None]
) -> None:
    case.run(FakeEngine(), limit=10)
    limit_file_size(500)
    with pytest.raises((OSError, DataError)):
        case.run(FakeEngine())
    limit_file_size(None)
    assert not list(case.out.parent.rglob(".*tmp"))
    assert len(case.rows()) == 10
    engine = FakeEngine()
    case.run(engine)
    assert len(engine.ids) == 50
    case.check()


def test_an_id_that_two_images_have_is_listed(case: Case) -> None:
    samples = [Sample(str(case.images / f"00{n}.jpg"), (), str(n // 2)) for n in range(4)]
    run = case.run(FakeEngine(), [*samples, samples[0]])
    assert [failure.id for failure in run.source_failures] == ["0", "1"]
    assert "--id-column" in run.source_failures[0].reason
    assert (run.counts.captioned, run.counts.repeated) == (2, 1)


def test_what_the_source_does_not_contain_any_more_is_counted(case: Case) -> None:
    case.run(FakeEngine())
    run = case.run(FakeEngine(), list_samples(case.images)[:10])
    assert run.counts.gone == 50
