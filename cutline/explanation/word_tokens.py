"""Group the tokens of a caption into words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cutline.tokenizer import Tokenizer


@dataclass(frozen=True)
class WordTokens:
    """A word of a caption, and its tokens."""

    text: str
    start: int
    """where the word begins in the caption"""
    end: int
    """where it ends"""
    first: int
    """number of its first token"""
    stop: int
    """number of the token after its last one"""

    def shift(self, count: int) -> "WordTokens":
        """Return the word with token numbers that count `count` more tokens before it."""
        return replace(self, first=self.first + count, stop=self.stop + count)


def group_tokens(tokenizer: Tokenizer, token_ids: Sequence[int]) -> list[WordTokens]:
    """Return the words of the text that `Tokenizer.decode` makes of token ids.

    A word is a token with those that continue it, and with the other parts of a contraction such as
    "don't". Punctuation is not a word.
    """
    text = tokenizer.decode(token_ids)
    words: list[WordTokens] = []
    end = 0
    for number, token in enumerate(tokenizer.convert_ids_to_tokens(token_ids)):
        piece = tokenizer.decode(token_ids[number : number + 1])
        start = text.find(piece, end) if piece else -1  # a special token has no text
        if start < 0:
            continue
        follows = bool(words) and start == words[-1].end
        end = start + len(piece)
        word = WordTokens(piece, start, end, number, number + 1)
        if follows and (token != piece or "'" in (piece[0], words[-1].text[-1])):
            last = words.pop()
            word = WordTokens(text[last.start : end], last.start, end, last.first, number + 1)
        words.append(word)
    return [word for word in words if any(map(str.isalnum, word.text))]
