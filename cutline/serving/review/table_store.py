"""`TableStore`: a captions file under review, which is written whole when the review ends."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cutline.config import DataSource
from cutline.data.sample import stamp_image
from cutline.data.write import not_writable
from cutline.files import atomic_write, check_writable, remove_partial
from cutline.serving.review.csv_file import CsvFile
from cutline.serving.review.formats import CaptionFile, FileRow, hash_captions
from cutline.serving.review.journal import Journal
from cutline.serving.review.json_lines import JsonLinesFile
from cutline.serving.review.parquet_rows import ParquetCaptionFile
from cutline.serving.review.provenance import Provenance
from cutline.serving.review.rematch import match_rows
from cutline.serving.review.replay import KnownRow, compress_ranges, replay_journal
from cutline.serving.review.row import Row, RowId
from cutline.serving.review.store import CaptionStore

FORMATS: dict[str, type[CaptionFile]] = {
    ".jsonl": JsonLinesFile,
    ".ndjson": JsonLinesFile,
    ".json": JsonLinesFile,
    ".csv": CsvFile,
    ".tsv": CsvFile,
    ".parquet": ParquetCaptionFile,
}


class TableStore(CaptionStore):
    """A captions file under review.

    Before the file is written, the journal records a hash of its new content. So it is known of any
    content that the review has left, and of which rows it has.
    """

    def __init__(self, source: DataSource, journal: Journal, provenance: Provenance) -> None:
        """Read the file, and what the journal says of it.

        Raises:
            DataError: One of them cannot be read, or the file cannot be written.
        """
        self.journal, self._provenance = journal, provenance
        self._file = FORMATS[Path(source.path).suffix.lower()](source)
        self.path = self._file.path
        self.name = self.path.name
        check_writable(self.path)
        remove_partial([self.path])
        self.rows = {}
        self._read()

    def _read(self) -> None:
        self._stamp = stamp_image(str(self.path))
        content = hash_captions(self.path)
        self._file = type(self._file)(self._file.source)
        self._entries = self._file.read()
        self.errors = self._file.errors
        self.replay = replay_journal(self.journal.read(), content)
        known = {**self._list_untouched(), **self.replay.rows}
        is_known = self._number_entries(content, known)
        rows = ((id, self._make_row(id)) for id in self._order)
        self.rows = {id: row for id, row in rows if row is not None}
        if not is_known:
            self._reload_changed(known)

    def _list_untouched(self) -> dict[RowId, KnownRow]:
        """Return the rows that the journal does not know, as they were read before, if they were.

        So they keep their numbers when somebody changes the file during a review.
        """
        return {
            number: KnownRow(row.name, row.text, row.state, row.version, texts={row.text})
            for number, row in self.rows.items()
        }

    def _number_entries(self, content: str, known: Mapping[RowId, KnownRow]) -> bool:
        """Find out which entry is which; return whether the journal knows the file."""
        order, absent = self.replay.order, self.replay.absent
        if order is not None and absent is not None:
            present = [id for id in order if id not in absent]
            self._order = order
            self._positions = {id: position for position, id in enumerate(present)}
            return True
        matches = match_rows(self._entries, known, order or [])
        self._order, self._positions = matches.order, matches.positions
        missing = [id for id in self._order if id not in self._positions]
        ranges = {"order": compress_ranges(self._order), "absent": compress_ranges(missing)}
        self.journal.append({"file": content, **ranges})
        return False

    def _reload_changed(self, known: Mapping[RowId, KnownRow]) -> None:
        """Let rows that somebody has changed have the new texts."""
        texts = {}
        for number in self.rows.keys() & known.keys() & self._positions.keys():
            entry = self._entries[self._positions[number]]
            if entry and entry.text not in known[number].texts:
                texts[number] = entry.text
                self.rows[number].text = known[number].text
        if texts:
            self.reload(texts)

    def find_row(self, id: RowId) -> Row | None:
        """Return the row with an id."""
        return self.rows.get(id) if isinstance(id, int) else None

    def _make_row(self, id: int) -> Row | None:
        position, known = self._positions.get(id), self.replay.rows.get(id)
        if position is not None:
            entry = self._entries[position]
        elif known and known.base and isinstance(known.base.raw, str):
            entry = self._file.parse_raw(known.base.raw)
        if entry is None:
            return None
        row = Row(id, id, entry.name, entry.image, entry.text)
        row.has_lines, row.confidence = entry.has_lines, entry.confidence
        self._add_origin(row, entry)
        if known is not None:
            known.restore(row)
        return row

    def _add_origin(self, row: Row, entry: FileRow) -> None:
        for key in filter(None, (entry.id, entry.name)):
            origin = self._provenance.find(key)
            if origin and entry.text in origin.texts:
                row.is_own = False
                if row.confidence is None:
                    row.confidence = origin.confidence

    def read_raw(self, row: Row) -> str:
        """Return the entry of a row, before its first change."""
        return self._file.read_raw(self._positions[row.number])

    def refresh(self, rows: Sequence[Row]) -> None:
        """Read the file again if somebody else has changed it."""
        if stamp_image(str(self.path)) != self._stamp:
            self._read()

    def apply(self, rows: Sequence[Row]) -> None:
        """Do nothing: the file is written when the review ends."""

    def read_columns(self, row: Row) -> dict[str, Any]:
        """Return columns that describe the caption of a row as it was read, such as `words`."""
        position = self._positions.get(row.number)
        if position is None:
            return {}
        columns = self._file.read_columns(position)
        entry = self._entries[position]
        if not columns.get("words") and entry is not None:
            origin = self._provenance.find(entry.id) or self._provenance.find(entry.name)
            if origin and entry.text in origin.texts:
                columns = {**origin.read_columns(), **columns}
        return columns

    def bring_up_to_date(self) -> bool:
        """Write the file if it is not what the journal says; return whether it was written."""
        self.refresh([])
        entries = self._list_entries()
        if entries == list(range(len(self._entries))):
            return False
        self._write(entries)
        return True

    def _list_entries(self) -> list[int | str]:
        """Return the entries of the file as the journal wants them."""
        entries: list[int | str] = []
        for id in self._order:
            position, row = self._positions.get(id), self.rows.get(id)
            if row is None and position is not None:
                entries.append(position)
            elif row is not None and row.state != "rejected":
                entries.append(self._make_entry(row, position))
        return entries

    def _make_entry(self, row: Row, position: int | None) -> int | str:
        base = row.base.raw if row.base and isinstance(row.base.raw, str) else ""
        replace_caption = self._file.replace_caption
        if position is not None:
            entry = self._entries[position]
            assert entry is not None  # it is a row
            if row.text == entry.text:
                return position
            raw = self._file.read_raw(position)
            # If only the review has changed the row, the first form has all that it had, such as
            # quotes and spaces.
            if raw != base and (not base or raw != replace_caption(base, entry.text)):
                return replace_caption(raw, row.text)
        assert row.base is not None
        return base if row.text == row.base.text else replace_caption(base, row.text)

    def _write(self, entries: Sequence[int | str]) -> None:
        try:
            with atomic_write(self.path) as temporary:
                self._file.write(temporary, entries)
                rejected = [row.number for row in self.rows.values() if row.state == "rejected"]
                absent = compress_ranges(rejected)
                self.journal.append({"file": hash_captions(temporary), "absent": absent})
        except OSError as error:
            raise not_writable(str(self.path), error) from None

    def describe(self) -> str:
        """Return what has been written where, in a few words."""
        return str(self.path)

    def close(self) -> None:
        """Let others use the data."""
        self._provenance.close()
        self.journal.close()
