"""Text to token ids and back: BERT's WordPiece, with BLIP's tokens [DEC] and [ENC]."""

from cutline.tokenizer.text import clean_caption
from cutline.tokenizer.wordpiece import EncodedText, Tokenizer

__all__ = ["EncodedText", "Tokenizer", "clean_caption"]
