"""`cutline search`."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from cutline.cli.console import escape_name, print_message, print_result
from cutline.cli.flags import (
    Flags,
    MatcherFlags,
    Output,
    ReportFlags,
    ReportOutput,
    check_outputs,
    check_report,
)
from cutline.config import DeviceConfig
from cutline.errors import ConfigError
from cutline.progress import progress_bar

if TYPE_CHECKING:
    from cutline.image import ImageSource
    from cutline.retrieval import SearchHit, SearchIndex


@dataclass(frozen=True)
class SearchReportFlags(ReportFlags):
    """Report: one HTML page, to search, filter and sort."""

    report: ReportOutput = ""
    """HTML report: the images that were found, with their scores"""


@dataclass(frozen=True)
class SearchOutputs:
    """Output: the hits go to stdout, and to these files."""

    json: bool = False
    """print the hits as JSON Lines"""
    output: Output = ""
    """JSON Lines file of the hits"""
    report: Annotated[SearchReportFlags, Flags] = field(default_factory=SearchReportFlags)

    def check(self) -> None:
        """Raise CutlineError for a file that cannot be written."""
        if self.output and not self.output.lower().endswith(".jsonl"):
            raise ConfigError(f"{self.output}: search writes hits to a .jsonl file")
        check_outputs(self.output)
        check_report(self.report.report)


@dataclass(frozen=True)
class IndexMatcherFlags(MatcherFlags):
    """Matcher: where the one that made the index is now."""

    matcher: Annotated[str, arg(metavar="MATCHER")] = ""
    """the same matcher as that of the index, if it has been moved (default: where it was)"""


def search_command(
    question: Positional[Annotated[str, arg(metavar="[QUESTION]")]] = "",
    *,
    place: Annotated[str, arg(name="in", metavar="INDEX")] = "",
    k: Annotated[int, arg(aliases=["-k"], metavar="N")] = 20,
    rerank_top: int = 0,
    image: Annotated[str, arg(metavar="FILE")] = "",
    outputs: Annotated[SearchOutputs, Flags] = SearchOutputs(),
    matcher: Annotated[IndexMatcherFlags, Flags] = IndexMatcherFlags(),
    inference: Annotated[DeviceConfig, Flags] = DeviceConfig(),
) -> int:
    """Find images by text or by image: `score<TAB>path` lines on stdout, best first.

    The score is the cosine of the embeddings of question and image; compare it within one question
    only. With --rerank-top, the match probability precedes it. `cutline index` makes the index.

    Examples:
        cutline search "two dogs on a beach" --in photos

        cutline search photo.jpg --in photos -k 5

        cutline search "two dogs on a beach" --in photos --rerank-top 50 --report found.html

    Args:
        question: Text that describes the image, in quotes; or the path of an image file, to find
            images that resemble it.
        place: Folder of images that was indexed, or an index (required).
        k: Images to find.
        rerank_top: Sort the first N images by match probability (ITM): more accurate, but these
            images are encoded again (0: off).
        image: Image file to search for, whatever its name.
    """
    from cutline.report import About
    from cutline.retrieval import SearchIndex, check_counts, require_text, write_search_report

    if not place:
        raise ConfigError("name the folder that was indexed, or the index, such as --in photos")
    check_counts(k, rerank_top)
    asked = choose_question(question, image)
    if rerank_top:
        require_text(asked)
    outputs.check()
    options = (inference.device, inference.precision)
    index = SearchIndex.open(place, matcher, *options, engine=inference.engine)
    hits = find_hits(index, asked, k, rerank_top)
    write_hits(hits, outputs)
    if outputs.report.report:
        settings = {"k": k, "rerank_top": rerank_top, **asdict(inference)}
        models = {"Matcher": matcher.matcher or index.images.info.matcher.matcher}
        about = About(place, others=models, settings=settings)
        num_images = outputs.report.report_images
        write_search_report(
            outputs.report.report, index, asked, hits, about, num_images, progress_bar
        )
    return 0


def choose_question(question: str, image: str) -> "str | ImageSource":
    """Return what is asked: a text, or the path of an image."""
    from cutline.retrieval import find_question

    if question and image:
        raise ConfigError("both a question and --image are given; leave out one of them")
    if not question and not image:
        raise ConfigError('nothing is asked: give a "text in quotes", or --image FILE')
    return Path(image).expanduser() if image else find_question(question)


def find_hits(
    index: "SearchIndex", question: "str | ImageSource", k: int, rerank_top: int
) -> "list[SearchHit]":
    """Search, tell how long it took on stderr, and return the hits."""
    start = time.monotonic()
    hits = index.search(question, max(k, rerank_top))
    print_message(f"searched {len(index):,} images in {time.monotonic() - start:.3f} s")
    if rerank_top and isinstance(question, str):
        start = time.monotonic()
        ranked = index.rerank(question, hits[:rerank_top])
        print_message(f"re-ranked {len(ranked):,} images in {time.monotonic() - start:.1f} s")
        print_unread(ranked)
        hits = ranked + hits[rerank_top:]
    return hits[:k]


def print_unread(hits: "Sequence[SearchHit]") -> None:
    """Print which images could not be read again."""
    for hit in hits:
        if hit.match is None:
            print_message(f"{hit.image}: not re-ranked, because it cannot be read any more")


def write_hits(hits: "Sequence[SearchHit]", outputs: SearchOutputs) -> None:
    """Print the hits, and write the file that is requested."""
    from cutline.data import write_captions

    rows = [describe_hit(hit) for hit in hits]
    if outputs.json:
        print_result("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        has_match = any(hit.match is not None for hit in hits)
        print_result("".join(format_hit(hit, has_match) for hit in hits))
    if outputs.output:
        write_captions(outputs.output, rows)


def describe_hit(hit: "SearchHit") -> dict[str, Any]:
    """Return a hit as JSON."""
    row: dict[str, Any] = {"image": hit.image, "score": round(hit.score, 6)}
    return row if hit.match is None else {**row, "match": round(hit.match, 6)}


def format_hit(hit: "SearchHit", has_match: bool) -> str:
    """Return the line of a hit."""
    match = "-" if hit.match is None else f"{hit.match:.4f}"
    columns = [match] if has_match else []
    columns += [f"{hit.score:.4f}", escape_name(hit.image)]
    return "\t".join(columns) + "\n"
