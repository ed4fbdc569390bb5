"""`TextOutput`: a text file or XMP sidecar for each caption, beside its image or in a folder."""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cutline.bulk.manifest import Manifest
from cutline.bulk.output import Output
from cutline.bulk.record import Failure, Record, TextEdit
from cutline.bulk.text_edit import (
    apply_edit,
    encode_text,
    hash_content,
    make_edit,
    read_content,
    restore_content,
    undo_edit,
)
from cutline.bulk.text_format import choose_text_format
from cutline.bulk.text_names import has_namesake, path_for_id
from cutline.config import Existing
from cutline.data import Sample
from cutline.errors import ConfigError, DataError
from cutline.files import remove_partial, write_text
from cutline.messages import one_line

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class TextOutput(Output):
    """A text file for each caption.

    Before a file is changed, the run records its name, the hash of its content and the new content.
    A run that was killed in between changes it later, once; a file that somebody else has changed
    meanwhile is left alone.
    """

    has_original_captions = False  # reading a million texts takes a minute

    def __init__(
        self, folder: Path | None, images: Path, extension: str, existing: Existing
    ) -> None:
        """Choose where files are written, and what becomes of those that exist.

        Args:
            folder: The folder; None for a file beside each image.
            images: The folder of all images.
            extension: Extension of the files, such as .txt.
            existing: What becomes of a file that exists.
        """
        self._folder, self._images = folder, images
        self._extension, self._existing = extension, existing
        self._root = images if folder is None else folder
        self._format = choose_text_format(extension)
        self._manifest = Manifest(None)
        self._num_written = self._num_restored = 0
        self._failures: list[Failure] = []

    def resume(self, manifest: Manifest) -> None:
        """Change the files of the last part, if a killed run had not done it yet."""
        self._manifest = manifest
        records = manifest.read_last_part()
        remove_partial(self._root / record.edit.path for record in records if record.edit)
        self.write(records)
        self._num_written = 0

    def forget(self, record: Record) -> None:
        """Take a caption out of its file, if the file is as the run left it."""
        if record.edit:
            undo_edit(record.edit, self._root)

    def skips(self, sample: Sample) -> bool:
        """Return whether the image has captions that are kept: those of a file not of this run."""
        if self._existing != "skip" or not self._has_file(sample):
            return False
        path, last = self._find_path(sample), self._find_edit(sample)
        is_own = last is not None and read_content(self._root / last.path) == encode_text(last.text)
        return not is_own and self._format.has_captions(path)

    def note(self, sample: Sample, done: bool) -> None:
        """Write the file of a caption again if it has been removed."""
        edit = self._find_edit(sample) if done else None
        if not edit or not edit.text:
            return
        path = self._root / edit.path
        if not os.path.exists(path):  # noqa: PTH110 (faster)
            write_text(path, edit.text)
            self._num_restored += 1

    def plan_edit(self, sample: Sample, texts: Sequence[str]) -> TextEdit | None:
        """Return the change of the image's file; the name that was recorded once stays.

        A file that would have no text is removed.

        Raises:
            DataError: The file that exists cannot be read.
        """
        record = self._manifest.find_record(sample.id)
        last = record.edit if record else None
        if not texts and not last and self._existing != "overwrite":
            return None
        path = self._root / last.path if last else self._find_path(sample)
        content = base = read_content(path)
        without = hash_content(content)
        if last and content == encode_text(last.text):  # ours, for an older image
            base, without = restore_content(last), last.without
        is_kept = self._existing != "overwrite"
        lines = self._format.read_lines(base, str(path)) if is_kept else []
        captions = [" ".join(text.split()) for text in texts]
        text = self._format.replace_lines(base, self._combine(lines, captions), str(path))
        return make_edit(os.path.relpath(path, self._root), content, text, base, without)

    def _combine(self, lines: list[str], captions: list[str]) -> list[str]:
        match self._existing:
            case "append":
                return [*lines, *captions]
            case "prepend":
                return [*captions, *lines]
            case "skip" if lines:  # written since the image was read
                return lines
        return captions

    def write(self, records: Sequence[Record]) -> None:
        """Change the files of records."""
        for record in records:
            if not record.edit:
                continue
            try:
                self._num_written += apply_edit(record.edit, self._root)
            except (OSError, DataError) as error:
                if getattr(error, "errno", None) in _DISK_FULL:
                    raise
                self._failures.append(Failure(record.id, "output", one_line(str(error))))

    def iter_failures(self) -> Iterator[Failure]:
        """Yield the files that could not be written."""
        yield from self._failures

    def describe(self) -> list[str]:
        """Return where files were written, and how many."""
        place = f"{self._folder}" if self._folder else f"{self._extension} files beside the images"
        restored = f", {self._num_restored:,} written again" if self._num_restored else ""
        return [f"{place}: {self._num_written:,} captions{restored}"]

    def _find_edit(self, sample: Sample) -> TextEdit | None:
        """Return what was recorded last of the image's file."""
        record = self._manifest.find_record(sample.id)
        return record.edit if record else None

    def _has_file(self, sample: Sample) -> bool:
        """Return whether there is a file with one of the names that that of the image may have."""
        return any(map(os.path.exists, self._list_names(sample)))

    def _list_names(self, sample: Sample) -> list[str]:
        """Return the names that the file of an image may have, the usual one first.

        Raises:
            ConfigError: The image is not a file, and has no place beside it.
        """
        image = sample.local_path
        if self._folder is None:
            if not image:
                raise ConfigError(
                    f"{sample.name}: not a file, so that no text can be written beside it; "
                    "name a folder or a file as output"
                )
            if self._format.keeps_image_extension:
                return [image + self._extension]
            stem = os.path.splitext(image)[0]  # noqa: PTH122
            return [stem + self._extension, image + self._extension]
        name = os.path.join(self._folder, path_for_id(sample.id))  # noqa: PTH118
        names = [name + self._extension]
        if self._format.keeps_image_extension:
            return names
        if image and os.path.relpath(image, self._images) == os.path.normpath(sample.id):
            names.insert(0, os.path.splitext(name)[0] + self._extension)  # noqa: PTH122
        return names

    def _find_path(self, sample: Sample) -> Path:
        """Return the file of an image that has no recorded one."""
        names = self._list_names(sample)
        return Path(names[has_namesake(sample.name, self._extension) if len(names) > 1 else 0])
