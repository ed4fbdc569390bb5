"""The images of a comparison's report, with the words in which their captions differ."""

from cutline.evaluation.comparison import ComparedImage, Comparison
from cutline.evaluation.image_cards import make_image_card, select_ranked
from cutline.evaluation.word_diff import mark_differences
from cutline.report import (
    Block,
    Card,
    Column,
    Figures,
    Gallery,
    Line,
    Text,
    Tone,
    format_interval,
    format_number,
)

NOISE, SAME, UNKNOWN = "within noise", "same caption", "too few references to tell"
"""tags of images on which neither file is known to be better"""
CHANCE = 0.05
"""share of the images without a true difference that are beyond noise"""


def show_compared_images(comparison: Comparison, num_images: int) -> list[Block]:
    """Return a gallery of at most so many images, which opens with those beyond noise.

    Before it, figures say how many images have each tag, and text what the tags mean.
    """
    images = _TaggedImages(comparison)
    figures = [
        (f"{count:,}", tag) for tag, count in images.counts.items() if count or tag in images.better
    ]
    gallery = images.make_gallery(num_images)
    texts = images.explain()
    if len(gallery.cards) < len(images.images):
        texts.append(
            f"This page has {len(gallery.cards):,} of {len(images.images):,} images: those beyond "
            "noise first, then others from the whole range of differences."
        )
    return [Figures(figures), *map(Text, texts), gallery]


class _TaggedImages:
    """The images of a comparison, each with a tag: which file is better on it, if any."""

    def __init__(self, comparison: Comparison) -> None:
        first, second = self.names = comparison.names
        self.images = comparison.images
        self.better: dict[str, Tone] = {f"{second} better": "good", f"{first} better": "bad"}
        self.tags = [self._find_tag(image) for image in self.images]
        tags = (*self.better, NOISE, SAME, UNKNOWN)
        self.counts = {tag: self.tags.count(tag) for tag in tags}

    def _find_tag(self, image: ComparedImage) -> str:
        if image.captions[0] == image.captions[1]:
            return SAME
        if image.is_beyond_noise:
            second, first = self.better
            return second if image.cider_difference > 0 else first
        return UNKNOWN if image.is_beyond_noise is None else NOISE

    def explain(self) -> list[str]:
        """Return what the tags mean, and how many images are beyond noise by chance."""
        num_beyond = sum(self.counts[tag] for tag in self.better)
        num_tested = num_beyond + self.counts[NOISE]
        texts = []
        if num_tested:
            texts += [
                "A file is better on an image if the difference in CIDEr is beyond noise: its "
                "95 % interval over the references of the image excludes 0, so that with "
                "references by other people the same caption would probably score higher.",
                f"About 1 in 20 images without a true difference is beyond noise by chance. Of "
                f"{num_tested:,} images here, {num_beyond:,} are beyond noise; if no caption were "
                f"truly better, about {format_number(CHANCE * num_tested)} would be.",
            ]
        if self.counts[UNKNOWN]:
            texts.append("With fewer than three references of an image, noise cannot be estimated.")
        return texts

    def make_gallery(self, num_images: int) -> Gallery:
        """Return the images, largest difference first; those beyond noise are shown first."""
        first, second = self.names
        cards = [self._make_card(self.images[i], self.tags[i]) for i in self.select(num_images)]
        columns = [
            Column("CIDEr difference", signed=True),
            Column(f"CIDEr of {first}"),
            Column(f"CIDEr of {second}"),
        ]
        tags: dict[str, Tone] = {**self.better, NOISE: "", SAME: "", UNKNOWN: ""}
        return Gallery(
            cards,
            columns,
            tags,
            show_tags=list(self.better),
            given_order="largest difference first",
            num_references=1,
        )

    def select(self, number: int) -> list[int]:
        """Return the positions of at most so many images, largest difference first.

        Those beyond noise come before the others, of which an even spread is taken.
        """
        beyond = [index for index, tag in enumerate(self.tags) if tag in self.better]
        others = [index for index, tag in enumerate(self.tags) if tag not in self.better]
        selected: list[int] = []
        for indices in (beyond, others):
            values = [self.images[index].cider_difference for index in indices]
            positions = select_ranked(values, number - len(selected))
            selected += [indices[position] for position in positions]
        return sorted(selected, key=lambda index: -abs(self.images[index].cider_difference))

    def _make_card(self, image: ComparedImage, tag: str) -> Card:
        first, second = image.captions
        removed, added = mark_differences(first, second)
        lines = [Line(first, self.names[0], removed), Line(second, self.names[1], added)]
        if first == second:
            lines = [Line(first, "both")]
        scores = [score.cider for score in image.scores]
        interval = image.difference_interval
        note = f"95 % interval {format_interval(*interval, 2, signed=True)}" if interval else ""
        return make_image_card(image.sample, lines, [image.cider_difference, *scores], [tag], note)
