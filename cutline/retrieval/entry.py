"""`IndexedImage`: the name of an image in an index, and what tells whether it has changed."""

import json
from dataclasses import dataclass
from typing import Self

from cutline.data import Sample
from cutline.data.sample import stamp_image
from cutline.files import relative_path
from cutline.web import hide_credentials


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """An image in an index."""

    name: str
    """path relative to the folder of the images, or the id of one that is not a file of its own"""
    stamp: str = ""
    """what changes when the image does; empty if unknown"""
    is_file: bool = True
    """whether it is a local file of its own"""

    def to_json(self) -> bytes:
        """Return a line of JSON: ASCII, so that any file name is encodable."""
        values = {"path" if self.is_file else "id": self.name, "stamp": self.stamp}
        return json.dumps(values).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> Self:
        """Read a line of JSON.

        Raises:
            ValueError: It is damaged.
        """
        values = json.loads(line)
        match values:
            case {"path": str(name), "stamp": str(stamp)}:
                return cls(name, stamp)
            case {"id": str(name), "stamp": str(stamp)}:
                return cls(name, stamp, is_file=False)
        raise ValueError("not an image of an index")


def describe_image(sample: Sample, folder: str) -> IndexedImage:
    """Return what an index keeps of the image of a sample.

    Args:
        sample: The sample.
        folder: The folder that paths are relative to.
    """
    stamp = stamp_image(sample.image)
    if path := sample.local_path:
        return IndexedImage(relative_path(path, folder), stamp)
    return IndexedImage(hide_credentials(sample.id), stamp, is_file=False)
