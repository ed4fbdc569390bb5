"""`TextPattern`: what is searched for in captions, and replaced."""

import re
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class TextPattern:
    """A text to search for, character by character."""

    text: str
    whole_words: bool = False
    """whether no letter, digit or underscore may be beside it"""
    match_case: bool = False

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        text = re.escape(self.text)
        if self.whole_words:
            text = rf"(?<!\w){text}(?!\w)"
        return re.compile(text, 0 if self.match_case else re.IGNORECASE)

    def find(self, text: str) -> bool:
        """Return whether a text contains this one."""
        return self._regex.search(text) is not None

    def list_spans(self, text: str) -> list[tuple[int, int]]:
        """Return where a text contains this one."""
        return [match.span() for match in self._regex.finditer(text)] if self.text else []

    def replace(self, text: str, replacement: str) -> str:
        """Return a text with another one in place of this."""
        return self._regex.sub(lambda _: replacement, text) if self.text else text
