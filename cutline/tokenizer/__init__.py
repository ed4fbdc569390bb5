"""Text to ids and back: WordPiece as BERT does it, with BLIP's [DEC] and [ENC]."""

from cutline.tokenizer.text import clean_caption
from cutline.tokenizer.wordpiece import Tokenizer

__all__ = ["Tokenizer", "clean_caption"]
