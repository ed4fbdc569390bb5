"""Search images by text or image: an index of their embeddings on disk, and questions to it."""

from cutline.retrieval.build import IndexSettings, IndexSummary, build_index, update_index
from cutline.retrieval.report import write_search_report
from cutline.retrieval.run import IndexCounts, IndexListener
from cutline.retrieval.search_index import (
    SearchHit,
    SearchIndex,
    find_question,
    require_text,
    search,
)
from cutline.retrieval.sources import ImageSources

__all__ = [
    "ImageSources",
    "IndexCounts",
    "IndexListener",
    "IndexSettings",
    "IndexSummary",
    "SearchHit",
    "SearchIndex",
    "build_index",
    "find_question",
    "require_text",
    "search",
    "update_index",
    "write_search_report",
]
