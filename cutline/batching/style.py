"""Write captions in another style."""

from dataclasses import replace

from cutline.batching.alt_text import make_alt_text
from cutline.batching.caption import Caption
from cutline.config import CaptionStyle


def style_caption(caption: Caption, style: CaptionStyle) -> Caption:
    """Return a caption in a style: its text, the words that are left, and its alternatives.

    Tokens, score and confidence remain those of what was generated.

    Args:
        caption: The caption.
        style: "plain": as it is; "alt": an alternative text, see `make_alt_text`.
    """
    if style == "plain":
        return caption
    text, start, end = make_alt_text(caption.text)
    words = [
        replace(
            word,
            text=text[word.start - start : word.end - start],
            start=word.start - start,
            end=word.end - start,
        )
        for word in caption.words
        if start <= word.start and word.end <= end
    ]
    alternatives = tuple(style_caption(each, style) for each in caption.alternatives)
    return replace(caption, text=text, words=tuple(words), alternatives=alternatives)
