"""What a matcher does with images and texts: pairs, embeddings, scores and hidden states."""

from cutline.matching.features import read_images, read_pairs, read_texts
from cutline.matching.pairing import (
    make_equally_long,
    make_pairing,
    number_distinct,
    to_text_list,
)
from cutline.matching.predictor import MatchPredictor, StartToken
from cutline.matching.scores import MatchScores, score_texts
from cutline.matching.texts import MAX_ROWS, classify_texts, encode_texts

__all__ = [
    "MAX_ROWS",
    "MatchPredictor",
    "MatchScores",
    "StartToken",
    "classify_texts",
    "encode_texts",
    "make_equally_long",
    "make_pairing",
    "number_distinct",
    "read_images",
    "read_pairs",
    "read_texts",
    "score_texts",
    "to_text_list",
]
