"""The manifest: what is committed survives, and nothing else is believed."""

import json
from pathlib import Path

import pytest

from cutline.bulk.manifest import Manifest, Status
from cutline.bulk.record import Failure, Record, TextEdit
from cutline.bulk.state import remove_state
from cutline.errors import ConfigError, DataError

NAMES = ("a.jpg", "b\n.jpg", "\udcff.jpg", "ü/日本.png")


def make_record(id: str, caption: str = "a dog") -> Record:
    return Record(id, "10-20", {"image": id, "caption": caption, "score": -0.5})


def claim_all(manifest: Manifest, ids: tuple[str, ...] = NAMES, stamp: str = "10-20") -> list[str]:
    return [manifest.claim(id, stamp).value for id in ids]


def test_what_is_committed_is_done_in_the_next_run(tmp_path: Path) -> None:
    with Manifest(tmp_path / "state") as manifest:
        assert claim_all(manifest) == ["new"] * 4
        for name in NAMES[:3]:
            manifest.add(make_record(name))
        assert [record.id for record in manifest.commit()] == list(NAMES[:3])
        manifest.add(make_record(NAMES[3]))  # not committed
    with Manifest(tmp_path / "state") as manifest:
        assert claim_all(manifest) == ["done", "done", "done", "new"]
        assert claim_all(manifest) == ["repeated"] * 4
        assert [record.id for record in manifest.iter_records(True)] == list(NAMES[:3])
        record = manifest.find_record(NAMES[2])
        assert record == make_record(NAMES[2])
        assert list(manifest.columns) == ["image", "caption", "score"]


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    state = tmp_path / "photos" / ".cutline" / "txt"
    with pytest.raises(ConfigError), Manifest(state):
        raise ConfigError("no file that a text could be written beside")
    assert not list((tmp_path / "photos").iterdir())
    with Manifest(state) as manifest:
        manifest.add(make_record("a.jpg"))
        manifest.commit()
    with pytest.raises(ConfigError), Manifest(state):
        raise ConfigError("again")
    with Manifest(state) as manifest:
        assert manifest.claim("a.jpg", "10-20") is Status.DONE


def test_a_changed_image_is_new_and_its_last_record_counts(tmp_path: Path) -> None:
    for stamp, caption in (("10-20", "old"), ("10-21", "new")):
        with Manifest(tmp_path) as manifest:
            assert manifest.claim("a.jpg", stamp) is Status.NEW
            manifest.add(Record("a.jpg", stamp, {"caption": caption}))
            manifest.commit()
    with Manifest(tmp_path) as manifest:
        assert manifest.claim("a.jpg", "10-21") is Status.DONE
        assert [record.row["caption"] for record in manifest.iter_records(True)] == ["new"]
    with Manifest(tmp_path) as manifest:  # a list may name a file that was removed
        assert manifest.claim("a.jpg", "") is Status.DONE


def test_failures_are_tried_again_on_request(tmp_path: Path) -> None:
    with Manifest(tmp_path) as manifest:
        manifest.add(Record("a.jpg", "1-1", kind="image", reason="truncated"))
        manifest.commit()
    for retry, status in ((False, Status.FAILED), (True, Status.NEW)):
        with Manifest(tmp_path) as manifest:
            assert manifest.claim("a.jpg", "1-1", retry) is status
            assert list(manifest.iter_failures(False)) == [Failure("a.jpg", "image", "truncated")]
    with Manifest(tmp_path) as manifest:
        assert manifest.claim("a.jpg", "2-2") is Status.NEW
        manifest.add(make_record("a.jpg"))
        manifest.commit()
        assert list(manifest.iter_failures(False)) == []


def test_records_come_in_the_order_of_the_source_of_this_run(tmp_path: Path) -> None:
    with Manifest(tmp_path) as manifest:
        for id in ("c", "a", "gone"):
            manifest.add(make_record(id))
        manifest.commit()
    with Manifest(tmp_path) as manifest:
        assert claim_all(manifest, ("a", "b", "c")) == ["done", "new", "done"]
        manifest.add(make_record("b"))
        manifest.commit()
        assert [record.id for record in manifest.iter_records(True)] == ["a", "b", "c"]
        assert [record.id for record in manifest.iter_records(False)] == ["a", "b", "c", "gone"]


def test_other_settings_are_refused_with_their_names(tmp_path: Path) -> None:
    with Manifest(tmp_path, {"num_beams": 3, "prompt": "a photo of", "source": ["photos"]}):
        pass
    with Manifest(tmp_path, {"num_beams": 3, "prompt": "a photo of", "source": ["photos"]}):
        pass
    with (
        pytest.raises(
            ConfigError, match=r"num_beams was 3, and is 5; top_p was the default, and is 1"
        ) as caught,
        Manifest(
            tmp_path, {"num_beams": 5, "top_p": 1, "prompt": "a photo of", "source": ["photos"]}
        ),
    ):
        pass
    assert "prompt" not in str(caught.value)
    assert "--new-run" in str(caught.value)


def test_two_runs_cannot_use_one_folder(tmp_path: Path) -> None:
    with Manifest(tmp_path), pytest.raises(DataError, match="another run"), Manifest(tmp_path):
        pass


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    with Manifest(tmp_path) as manifest:
        manifest.add(make_record("a"))
        manifest.commit()
    part = tmp_path / "part-00000001.jsonl"
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(DataError, match="part-00000001"), Manifest(tmp_path):
        pass
    part.unlink()
    with Manifest(tmp_path) as manifest:
        assert manifest.claim("a", "10-20") is Status.NEW


def test_many_parts_are_read_with_few_open_files(tmp_path: Path) -> None:
    with Manifest(tmp_path) as manifest:
        for number in range(100):
            manifest.add(make_record(f"{number}"))
            manifest.commit()
        records = list(manifest.iter_records(False))
        assert [record.id for record in records] == [str(number) for number in range(100)]
        assert len(manifest.parts._open) <= 32


def test_records_are_lines_of_ascii(tmp_path: Path) -> None:
    edit = TextEdit("\udcff.txt", "hash", "a dog\n")
    record = Record("\udcff.jpg", "", {"caption": "ü"}, edit=edit)
    line = record.to_json()
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert Record.from_json(line) == record
    assert json.loads(line)["row"] == {"caption": "ü"}


def test_only_the_folder_of_a_manifest_is_removed(tmp_path: Path) -> None:
    forgotten: list[Record] = []
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").touch()
    with pytest.raises(DataError, match="not the state of a run"):
        remove_state(folder, forgotten.append)
    with Manifest(tmp_path / "state") as manifest:
        manifest.add(make_record("a"))
        manifest.commit()
        with pytest.raises(DataError, match="another run"):
            remove_state(tmp_path / "state", forgotten.append)
    remove_state(tmp_path / "state", forgotten.append)
    remove_state(tmp_path / "state", forgotten.append)
    assert forgotten == [make_record("a")]
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["lock"]
