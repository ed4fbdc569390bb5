"""Open the data of a review: a captions file, or a folder of images with texts beside them."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from cutline.config import DataSource
from cutline.data.find import find_index, find_split
from cutline.data.formats import is_jsonl
from cutline.data.open import expand_source
from cutline.data.row import reject_columns
from cutline.data.walk import scan_images
from cutline.errors import DataError
from cutline.serving.review.journal import Journal
from cutline.serving.review.provenance import Provenance
from cutline.serving.review.sidecar_store import SidecarStore
from cutline.serving.review.store import CaptionStore
from cutline.serving.review.table_store import FORMATS, TableStore

REVIEWED = (
    "a .jsonl, .csv, .tsv or .parquet file of captions, or a folder of images with .txt files "
    "beside them, or with a metadata.jsonl or captions.jsonl"
)


def open_captions(source: DataSource | str | Path) -> CaptionStore:
    """Open the data of a review, and bring it up to date with its journal.

    Args:
        source: A captions file, or a folder.

    Raises:
        DataError: It cannot be read or written, is of another kind, or another process uses it.
    """
    source = _find_source(expand_source(source))
    path = Path(source.path)
    is_folder = path.is_dir()
    with ExitStack() as stack:
        journal = Journal(path if is_folder else path.parent, "" if is_folder else path.name)
        stack.callback(journal.close)
        provenance = Provenance.of_folder(path) if is_folder else Provenance.of_file(path)
        stack.callback(provenance.close)
        store = _make_store(source, journal, provenance)
        if store.bring_up_to_date():
            store.refresh([])
        stack.pop_all()  # the store closes them
    return store


def _make_store(source: DataSource, journal: Journal, provenance: Provenance) -> CaptionStore:
    if Path(source.path).is_dir():
        return SidecarStore(Path(source.path), journal, provenance)
    return TableStore(source, journal, provenance)


def _find_source(source: DataSource) -> DataSource:
    """Return the captions file, or the folder of images, that was named.

    Raises:
        DataError: There is none.
    """
    path = Path(source.path)
    if path.is_dir() and source.split:
        found = find_split(source)
        if isinstance(found, list):
            raise DataError(f"{path}: holds Parquet files; name one of them, such as {found[0]}")
        return _find_source(found)
    if path.is_dir():
        if index := find_index(path):
            return replace(source, path=str(index))
        reject_columns(source.columns, path)
        if not any(scan_images(path)):
            raise DataError(f"{path}: contains no images; give {REVIEWED}")
        return source
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give {REVIEWED}")
    is_coco = path.suffix.lower() == ".json" and not is_jsonl(path, source.columns.image_column)
    if path.suffix.lower() not in FORMATS or is_coco:
        raise DataError(f"{path}: cannot be reviewed; give {REVIEWED}")
    return source
