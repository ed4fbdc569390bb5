"""Kinds of findings: what each is called, how bad it is, and what to do about it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Kind:
    """A kind of finding."""

    singular: str
    """what one finding says, after its number"""
    plural: str
    tag: str
    """short name, by which images are filtered"""
    advice: str
    """what to do, and what happens if nothing is done"""
    severity: Literal["error", "warning"] = "warning"
    """errors are images that training skips, and what makes its results wrong"""


KINDS = {
    "missing": Kind(
        "image file does not exist",
        "image files do not exist",
        "no file",
        "Training skips these images. Correct their paths, or name the folder that the paths are "
        "relative to with `--image-root` (`data.image_root`).",
        "error",
    ),
    "unreadable": Kind(
        "image cannot be read",
        "images cannot be read",
        "unreadable",
        "Training skips these images. Replace the files, or remove their rows from the data.",
        "error",
    ),
    "unreadable_other_set": Kind(
        "other dataset has no readable image",
        "other datasets have no readable image",
        "",
        "Nothing could be compared. Correct the path of `--against`, or the folder that its images "
        "are relative to with `--image-root`.",
        "error",
    ),
    "uncaptioned": Kind(
        "image has no usable caption",
        "images have no usable caption",
        "no caption",
        "Training does not use these images. Name the column of the captions with "
        "`--caption-column` (`data.caption_column`), write captions in `cutline review`, or let "
        "`cutline caption` write them.",
        "error",
    ),
    "leak": Kind(
        "image is also in the other dataset",
        "images are also in the other dataset",
        "in both datasets",
        "Scores on images that were trained on are too high. Remove these images from one of the "
        "datasets; `-o findings.jsonl` lists all of them.",
        "error",
    ),
    "near_leak": Kind(
        "image looks like an image of the other dataset",
        "images look like images of the other dataset",
        "alike in both datasets",
        "Compare the images of each group. If they are one photograph in two sizes or qualities, "
        "remove it from one of the datasets, or scores are too high.",
    ),
    "repeated_across_split": Kind(
        "validation set repeats captions of the training data",
        "validation sets repeat captions of the training data",
        "",
        "Hold out whole scenes with `data.group_column` or `data.group_pattern`, or the last "
        "images with `data.val_selection: blocks`.",
    ),
    "neighbors_across_split": Kind(
        "validation set consists of neighbors of training images",
        "validation sets consist of neighbors of training images",
        "",
        "Hold out whole sequences with `data.group_pattern`, for which a value is suggested below, "
        "or the last images with `data.val_selection: blocks`.",
    ),
    "duplicate": Kind(
        "image has the same pixels as another one",
        "images have the same pixels as another one",
        "same pixels",
        "Training sees these images more often than others, and a copy may be held out for "
        "validation. Keep one image of each group, with the captions of all.",
    ),
    "near_duplicate": Kind(
        "image looks like another one",
        "images look like another one",
        "look alike",
        "Compare the images of each group. Of one photograph in several sizes or qualities, keep "
        "the best; photographs of one scene may stay, and `data.group_column` or "
        "`data.group_pattern` keeps them on one side of a split.",
    ),
    "tiny": Kind(
        "image is very small",
        "images are very small",
        "very small",
        "Training enlarges these images, which adds no detail. Replace them by larger ones, or "
        "remove them if little can be seen.",
    ),
    "extreme_aspect": Kind(
        "image has an extreme aspect ratio",
        "images have an extreme aspect ratio",
        "very wide or tall",
        "The model sees every image as a square, in which these are distorted. Crop them to what "
        "their captions describe, or remove them.",
    ),
    "empty_caption": Kind(
        "caption is empty after cleaning",
        "captions are empty after cleaning",
        "empty caption",
        "Training does not use these captions. Write them again in `cutline review`, or keep "
        "punctuation with `--clean none` (`data.clean`).",
    ),
    "long_caption": Kind(
        "caption is truncated to max_words",
        "captions are truncated to max_words",
        "too many words",
        "Training does not see the end of these captions. Shorten them, or raise `--max-words` "
        "(`data.max_words`).",
    ),
    "cut_caption": Kind(
        "caption is truncated to max_tokens",
        "captions are truncated to max_tokens",
        "too many tokens",
        "Training does not see the end of these captions. Shorten them or the prompt, or raise "
        "`--max-tokens` (`data.max_tokens`), up to the positions of the model.",
    ),
    "repeated_caption": Kind(
        "caption is repeated for the same image",
        "captions are repeated for the same image",
        "caption repeated",
        "Training chooses these captions more often than others of the same image. Remove the "
        "repetitions.",
    ),
    "common_caption": Kind(
        "caption is shared by many images",
        "captions are shared by many images",
        "shared caption",
        "A caption that fits many images says little about each, and the captioner learns to "
        "prefer it. Write captions that tell the images apart, as in `cutline review`.",
    ),
    "broken_text": Kind(
        "caption has invalid characters",
        "captions have invalid characters",
        "invalid characters",
        "The file was written or read in another encoding, or is damaged. Save it as UTF-8, and "
        "correct these captions.",
    ),
    "unknown_word": Kind(
        "word is not in the vocabulary",
        "words are not in the vocabulary",
        "unknown word",
        "Training replaces these words by [UNK], and the captioner never writes them. Correct "
        "their spelling, or choose a vocabulary that has them with `--tokenizer` "
        "(`init.tokenizer`).",
    ),
}
"""the kinds by name, in the order of reports"""

ERRORS = frozenset(name for name, kind in KINDS.items() if kind.severity == "error")
"""kinds that training skips or that make its results wrong; the other kinds are warnings"""
