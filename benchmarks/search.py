"""Measure how long a query to an index takes.

    python benchmarks/search.py --output docs/benchmarks/search.json
    python benchmarks/search.py --num-images 100000 --repeats 50

The index holds random embeddings of width 256, and the queries, of eight words, are encoded by a
matcher of BLIP-base size with random weights. Loading is measured apart. Progress goes to stderr, a
line of JSON to stdout.
"""

import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from inputs import write_matcher
from results import make_result, progress, write_result

from cutline.config import CaptionConfig, InferencePrecision, MatcherOptions
from cutline.retrieval import SearchIndex
from cutline.retrieval.embedding import read_matcher
from cutline.retrieval.entry import IndexedImage
from cutline.retrieval.info import IndexInfo, IndexSources
from cutline.retrieval.update import IndexUpdate

WIDTH = 256


@dataclass(frozen=True)
class Options:
    """Time per query to an index of random embeddings."""

    output: str = ""
    """write the result to this JSON file"""
    size: Literal["base", "large", "tiny"] = "base"
    """size of the matcher; tiny is for testing this script"""
    precision: InferencePrecision = "fp32"
    """precision of the matcher"""
    num_images: int = 10_000
    """images in the index"""
    repeats: int = 30
    """queries"""
    k: int = 20
    """images that are returned"""


def write_index(folder: Path, matcher: Path, count: int) -> None:
    """Write an index of random embeddings."""
    folder.mkdir()
    options = MatcherOptions(str(matcher))
    sources = IndexSources((f"folder {folder}",), (".",), ".")
    info = IndexInfo(options, read_matcher(options).fingerprint(), sources)
    info.write(folder)
    update = IndexUpdate(folder, info)
    embeddings = np.random.default_rng(0).normal(size=(count, WIDTH)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    names = [f"{number:06}.jpg" for number in range(count)]
    for name, embedding in zip(names, embeddings, strict=True):
        update.add(IndexedImage(name), embedding)
    update.commit()
    update.finish(names)


def time_queries(options: Options, folder: Path) -> dict[str, Any]:
    """Return the seconds of loading and of each query."""
    progress.print("drawing random weights and embeddings")
    words = write_matcher(folder / "matcher", CaptionConfig.preset(options.size))
    write_index(folder / "index", folder / "matcher", options.num_images)
    start = time.perf_counter()
    index = SearchIndex.open(folder / "index", precision=options.precision)
    loading = time.perf_counter() - start
    queries = np.random.default_rng(1).choice(words, (options.repeats + 1, 8))
    seconds = []
    for query in queries:
        start = time.perf_counter()
        hits = index.search(" ".join(query), options.k)
        seconds.append(time.perf_counter() - start)
        assert len(hits) == min(options.k, options.num_images)
    first, *others = seconds
    return {
        "loading": loading,
        "first": first,
        "seconds": others,
        "median": statistics.median(others),
        "slowest": max(others),
    }


def main(options: Options) -> None:
    """Measure, and print the result."""
    with tempfile.TemporaryDirectory() as temporary:
        times = time_queries(options, Path(temporary))
    progress.print(
        f"{options.num_images:,} images: median {1000 * times['median']:.1f} ms per query, "
        f"slowest {1000 * times['slowest']:.1f} ms, the first {1000 * times['first']:.1f} ms"
    )
    result = make_result(options, times)
    write_result(result, options.output)
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
