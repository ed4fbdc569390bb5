"""`Output`: where the captions of a run go; and those that are a single file, or stdout."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cutline.bulk.manifest import Manifest
from cutline.bulk.record import Failure, Record, TextEdit
from cutline.data import Sample, write_captions, write_results
from cutline.data.coco_results import ImageIds, find_image_id
from cutline.errors import ConfigError
from cutline.files import relative_path


class Output:
    """Where captions go. This one writes nothing; subclasses say what is written, and when.

    A run reads samples in one thread, which calls `skips` and `note`, and calls everything else in
    another.

    Attributes:
        is_immediate: Whether each record is written at once, not with others.
        has_original_captions: Whether captions of the source are written, too.
        has_all_captions: Whether captions of low confidence are recorded as others are, and this
            output decides whenever it is written what becomes of them.
    """

    is_immediate = False
    has_original_captions = True
    has_all_captions = False

    def resume(self, manifest: Manifest) -> None:
        """Repeat what a killed run may not have written, although it had recorded it."""

    def forget(self, record: Record) -> None:
        """Undo what an earlier run has written for a record, which shall be made again."""

    def begin_shard(self, path: str, prefix: str) -> bool:
        """Note that the samples of a tar shard follow, in the thread that reads them.

        Args:
            path: Path or address of the shard.
            prefix: What the ids of its samples begin with, before a slash and the key.

        Returns:
            Whether to read it.
        """
        return True

    def end_shard(self) -> None:
        """Note that all samples of this shard have been read, and passed to `skips` or `note`."""

    def part_key(self, sample: Sample) -> str:
        """Return what decides to which part of the collection a sample belongs."""
        return sample.id

    def skips(self, sample: Sample) -> bool:
        """Return whether a sample that is not recorded has a text that is kept."""
        return False

    def note(self, sample: Sample, done: bool) -> None:
        """Note that the source contains a sample, which is recorded, or is about to be."""

    def prepare(self, sample: Sample) -> Sample:
        """Return a sample that has just been noted, with its image as it is to be read."""
        return sample

    def plan_edit(self, sample: Sample, texts: Sequence[str]) -> TextEdit | None:
        """Return the change of a text file that texts make, to be recorded before it."""
        return None

    def describe_sample(self, sample: Sample) -> dict[str, Any]:
        """Return columns that the row of a sample has only in this output."""
        return {}

    def write(self, records: Sequence[Record]) -> None:
        """Write what can be written of records that have just been committed."""

    def finish(self, manifest: Manifest, complete: bool) -> None:
        """Write the rest, at the end of a run or when it is stopped.

        Args:
            manifest: All records.
            complete: Whether the source was read to its end.
        """

    def close(self) -> None:
        """Stop what is going on in other threads, at the end of a run, whatever happened."""

    def describe(self) -> list[str]:
        """Return what was written where, in a few words each, after `finish`."""
        return []

    def iter_failures(self) -> Iterator[Failure]:
        """Yield what could not be written although it is captioned, after `finish`."""
        return iter(())


class PrintedOutput(Output):
    """Captions that are printed as they come."""

    is_immediate = True

    def __init__(self, show: Callable[[Record], None]) -> None:
        """Print with a function."""
        self._show = show

    def write(self, records: Sequence[Record]) -> None:
        """Print captions."""
        for record in records:
            if not record.kind:
                self._show(record)


class FileOutput(Output):
    """A .jsonl, .csv or .parquet file with a row for each caption, in the order of the source.

    Which captions are accepted is decided whenever the file is written, so that a later run may
    have another threshold.

    Attributes:
        marks_captions: Whether a column says which captions are accepted; else the others are left
            out.
    """

    has_all_captions = True
    marks_captions = True

    def __init__(
        self, path: Path, min_confidence: float = 0.0, relative_paths: bool = False
    ) -> None:
        """Write to a file.

        Args:
            path: The file.
            min_confidence: Captions of lower confidence are not accepted (0: no threshold).
            relative_paths: Whether paths of images become relative to the folder of the file, as
                whoever reads it as a dataset expects, unless they are absolute.
        """
        self.path, self._relative_paths = path, relative_paths
        self._min_confidence = min_confidence
        self._count = self._num_not_accepted = 0

    def describe_sample(self, sample: Sample) -> dict[str, Any]:
        """Return the path of the image relative to the file."""
        path = sample.local_path
        if not self._relative_paths or not path or os.path.isabs(path):  # noqa: PTH117
            return {}
        return {"image": relative_path(path, self.path.parent)}

    def finish(self, manifest: Manifest, complete: bool) -> None:
        """Replace the file by one with all captions."""
        columns = list(self._mark(dict.fromkeys(manifest.columns, 0)))
        write_captions(self.path, self._iter_rows(manifest, complete), columns)

    def _iter_rows(self, manifest: Manifest, complete: bool) -> Iterator[Mapping[str, Any]]:
        self._count = self._num_not_accepted = 0
        for record in manifest.iter_records(seen_only=complete):
            for row in map(self._mark, record.rows):
                is_accepted = row.get("accepted", True)
                self._num_not_accepted += not is_accepted
                if is_accepted or self.marks_captions:
                    self._count += 1
                    yield row

    def _mark(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a row with the column `accepted` after `confidence`, if there is a threshold."""
        if not self._min_confidence or "confidence" not in row:
            return row
        is_accepted = row["confidence"] >= self._min_confidence
        names = list(row)
        end = names.index("confidence") + 1
        before, after = ({name: row[name] for name in part} for part in (names[:end], names[end:]))
        return {**before, "accepted": is_accepted, **after}

    def describe(self) -> list[str]:
        """Return the file and the number of its captions."""
        text = f"{self.path}: {self._count:,} captions"
        if self._num_not_accepted:
            done = "marked as not accepted" if self.marks_captions else "left out"
            text += f"; {self._num_not_accepted:,} {done}, of less confidence than min_confidence"
        return [text]


class ImagefolderOutput(FileOutput):
    """The metadata.jsonl of Hugging Face's imagefolder, which has columns of its own."""

    marks_captions = False

    def skips(self, sample: Sample) -> bool:
        """Return false; refuse an image that imagefolder would not find."""
        name_in_folder(sample, self.path.parent)
        return False

    def describe_sample(self, sample: Sample) -> dict[str, Any]:
        """Return the name of the image for imagefolder."""
        return {"file_name": name_in_folder(sample, self.path.parent)}

    def finish(self, manifest: Manifest, complete: bool) -> None:
        """Replace the file by one with all captions."""
        rows = self._iter_rows(manifest, complete)
        named = ({"file_name": row["file_name"], "text": row["caption"]} for row in rows)
        write_captions(self.path, named, ["file_name", "text"])


class ResultsOutput(FileOutput):
    """A .json file of COCO's results, which servers evaluate: images are known by integers."""

    has_original_captions = False
    marks_captions = False

    def __init__(self, path: Path, min_confidence: float = 0.0) -> None:
        """Write to a file; see `FileOutput`."""
        super().__init__(path, min_confidence)
        self._ids = ImageIds(path)

    def note(self, sample: Sample, done: bool) -> None:
        """Note an image, before it is captioned.

        Raises:
            ConfigError: Its id is not an integer, or that of another image.
        """
        self._ids.add(sample.id, sample.name)

    def finish(self, manifest: Manifest, complete: bool) -> None:
        """Replace the file by one with all captions."""
        write_results(self.path, self._iter_rows(manifest, complete))

    def _iter_rows(self, manifest: Manifest, complete: bool) -> Iterator[Mapping[str, Any]]:
        """Yield a row for each integer; of an image that was renamed, only that of the new name."""
        rows: dict[int, Mapping[str, Any]] = {}
        for row in super()._iter_rows(manifest, complete):
            image_id = find_image_id(row["id"], row["image"])
            assert image_id is not None  # as `note` has checked
            if image_id not in rows or self._ids.names.get(image_id) == row["image"]:
                rows[image_id] = row
        self._count = len(rows)
        yield from rows.values()


def name_in_folder(sample: Sample, folder: Path) -> str:
    """Return the path of an image within a folder, with slashes.

    Raises:
        ConfigError: It is not in the folder.
    """
    path = sample.local_path
    name = relative_path(path, folder) if path else ".."
    if name.partition("/")[0] == ".." or os.path.isabs(name):  # noqa: PTH117
        raise ConfigError(
            f"{sample.name}: not a file in {folder} or a folder below it, where Hugging Face's "
            "imagefolder expects the images of its metadata.jsonl; write the file there, or give "
            "it another name"
        )
    return name
