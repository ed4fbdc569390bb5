"""A captioner that returns given captions, and samples for it."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

from cutline.batching import Caption
from cutline.captioner import Captioner
from cutline.data import Sample

CAPTIONS = ("a red dog runs", "two cats", "a man on a red horse", "a dog")
REFERENCES = (
    ("a red dog runs fast", "a dog"),
    ("two cats sleep",),
    ("a man on a horse", "the red horse of a man"),
    ("the dog runs", "a dog"),
)


def fake_captioner(*texts: str) -> Captioner:
    """Return a captioner that gives these captions to one image after another."""

    def stream(images: list[object], prompts: list[str], **settings: object) -> Iterator[Caption]:
        yield from (Caption(text, 0.0, ()) for text in texts)

    return cast(Captioner, SimpleNamespace(config=SimpleNamespace(prompt=""), stream=stream))


def make_samples(*references: tuple[str, ...], domains: tuple[str, ...] = ()) -> list[Sample]:
    domains = domains or ("",) * len(references)
    pairs = zip(references, domains, strict=True)
    return [
        Sample(f"{index}.png", texts, str(index), domain=domain)
        for index, (texts, domain) in enumerate(pairs)
    ]
