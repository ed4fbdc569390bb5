"""Blocks of a report by their section."""

from typing import TypeVar

from cutline.report import Report, SideBySide

B = TypeVar("B")


def find_blocks(report: Report, heading: str, kind: type[B]) -> list[B]:
    """Return the blocks of a kind in a section, also those beside others."""
    [blocks] = [section.blocks for section in report.sections if section.heading == heading]
    return [part for block in blocks for part in _list_parts(block) if isinstance(part, kind)]


def _list_parts(block: object) -> list[object]:
    return [*block.blocks] if isinstance(block, SideBySide) else [block]
