"""Add captions to the members of a tar shard."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from tarfile import ReadError, TarError

from cutline.bulk.text_edit import encode_text
from cutline.config import Existing
from cutline.data.names import IMAGE_EXTENSIONS
from cutline.data.sample import MAX_IMAGE_BYTES
from cutline.data.tar import MAX_CAPTION_BYTES, split_member_name
from cutline.data.tar_reader import Member, TarSource, iter_all_members
from cutline.data.tar_writer import TarWriter, read_range
from cutline.data.text import decode_text
from cutline.errors import ConfigError, DataError
from cutline.messages import first_line, format_text

logger = logging.getLogger(__name__)

ORIGINAL_EXTENSION = "orig.txt"
"""of the member that keeps the text which a caption replaces or extends"""


def caption_member_extension(extension: str) -> str:
    """Return the extension of the members that have captions, without a dot.

    Raises:
        ConfigError: Other members have it.
    """
    name = extension.removeprefix(".")
    last = name.lower().rpartition(".")[2]
    if last == "json" or last in IMAGE_EXTENSIONS or name.lower() == ORIGINAL_EXTENSION:
        raise ConfigError(
            f"caption_extension .{name} is that of other files in shards; use one such as .txt"
        )
    return name


def encode_caption(caption: str) -> bytes:
    """Return the content of the member that has a caption: a single line."""
    return encode_lines([caption])


def encode_lines(texts: Iterable[str]) -> bytes:
    """Return the content of the member that has texts, each of them a line."""
    return encode_text("\n".join(" ".join(text.split()) for text in texts))


def list_members(source: TarSource, name: str, is_whole: bool) -> list[Member]:
    """Return the members of a shard; those before the damage, if it is damaged.

    Args:
        source: The shard, which can be read in any order.
        name: Its name.
        is_whole: Whether damage is an error.

    Raises:
        ReadError: The shard cannot be read, or nothing of it.
    """
    members: list[Member] = []
    try:
        for member in iter_all_members(source):
            members.append(member)
    except OSError as error:
        raise ReadError(first_line(error)) from None
    except TarError as error:
        assert source.end is not None
        while members and members[-1].end > source.end:
            members.pop()
        if is_whole or not members:
            raise
        logger.warning("%s: damaged (%s); what follows is not copied", format_text(name), error)
    return members


@dataclass
class ShardLayout:
    """Which members of a shard are images and captions; members are named by their indices."""

    images: dict[str, int] = field(default_factory=dict)
    """the image of each key"""
    ends: dict[int, str] = field(default_factory=dict)
    """the last of the members that follow each other and have the key of an image, with the key"""
    texts: dict[str, list[int]] = field(default_factory=dict)
    """members with the extension of captions, by key"""
    originals: set[str] = field(default_factory=set)
    """keys that have an original text"""


def find_layout(members: Sequence[Member], extension: str) -> ShardLayout:
    """Return which members of a shard are images, and captions with an extension."""
    layout = ShardLayout()
    last_key, has_image = "", False
    for index, member in enumerate(members):
        key, other = split_member_name(member.name) if member.is_file else ("", "")
        if has_image and key == last_key:
            layout.ends[index] = layout.ends.pop(index - 1)
        else:
            has_image = other in IMAGE_EXTENSIONS and key not in layout.images
            has_image = has_image and not member.problem and member.size <= MAX_IMAGE_BYTES
            if has_image:
                layout.images[key], layout.ends[index] = index, key
        if other == extension.lower():
            layout.texts.setdefault(key, []).append(index)
        if other == ORIGINAL_EXTENSION:
            layout.originals.add(key)
        last_key = key
    return layout


class CaptionedCopy:
    """A copy of a shard with captions."""

    def __init__(
        self,
        source: TarSource,
        members: Sequence[Member],
        name: str,
        extension: str,
        existing: Existing,
    ) -> None:
        """Find out where captions go.

        Args:
            source: The shard, which can be read in any order.
            members: Its members.
            name: Its name.
            extension: Extension of the members for captions, without a dot.
            existing: What becomes of such a member that exists.
        """
        self._source, self._members, self._name = source, members, format_text(name)
        self._extension, self._existing = extension, existing
        self._layout = find_layout(members, extension)

    def write(self, tar: TarWriter, captions: Mapping[str, str]) -> None:
        """Copy all members, with captions after their images, or instead of a text.

        Args:
            tar: Where they go.
            captions: Captions by key.

        Raises:
            ReadError: The shard cannot be read.
            DataError: The tar file cannot be written.
        """
        layout = self._layout
        changed = {index: key for key in captions for index in self._find_changed(key)}
        for index, member in enumerate(self._members):
            key = changed.get(index, "")
            if not key:
                tar.copy(self._source.stream, member.start, member.end)
            elif index == layout.texts[key][0]:
                self._change(member, key, captions[key], tar)
            key = layout.ends.get(index, "")
            if key in captions and key not in layout.texts:
                image = self._members[layout.images[key]].name
                tar.add(_rename(image, self._extension), encode_caption(captions[key]))
        for key in captions.keys() - layout.images.keys():
            logger.warning("%s: has no image %s any more", self._name, format_text(key))

    def _find_changed(self, key: str) -> list[int]:
        """Return the texts that a caption of a key changes: the first; others are left out."""
        texts = self._layout.texts.get(key, [])
        if not texts or self._existing == "skip":  # a text that came after the caption was made
            return []
        first = self._members[texts[0]]
        problem = first.problem or ("it is too large" if first.size > MAX_CAPTION_BYTES else "")
        if problem:
            name = format_text(first.name)
            logger.warning("%s/%s: stays, because %s", self._name, name, problem)
            return []
        return texts

    def _change(self, member: Member, key: str, caption: str, tar: TarWriter) -> None:
        end = member.offset + member.size
        original = b"".join(read_range(self._source.stream, member.offset, end))
        tar.add(member.name, self._combine(original, encode_caption(caption)))
        if key not in self._layout.originals:
            tar.add(_rename(member.name, ORIGINAL_EXTENSION), original)

    def _combine(self, original: bytes, caption: bytes) -> bytes:
        lines = [_to_utf8(original).removesuffix(b"\n")] if original.strip() else []
        match self._existing:
            case "append":
                return b"\n".join([*lines, caption])
            case "prepend":
                return b"\n".join([caption, *lines])
        return caption


def _rename(name: str, extension: str) -> str:
    """Return the name of another member of the same key."""
    stem = name[: -len(split_member_name(name)[1])]
    return stem + extension


def _to_utf8(text: bytes) -> bytes:
    """Return a text in UTF-8; as it is, if its encoding is unknown."""
    try:
        return decode_text(text, "").encode()
    except DataError:
        return text
