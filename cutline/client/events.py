"""`EventReader`: the events of a caption that is being generated, from the bytes of an answer."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cutline.client.failures import foreign_answers, make_error
from cutline.client.results import ServedCaption, ServedText, read_caption, read_text_event
from cutline.errors import CutlineError


class EventReader:
    """Reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

    def __init__(self, name: str, url: str, draft: bool) -> None:
        """Start reading.

        Args:
            name: Name of the image, for errors.
            url: Address of the server, for errors.
            draft: Whether to yield drafts.
        """
        self._name, self._url, self._draft = name, url, draft
        self._rest = b""  # of a line that has not ended
        self._event, self._data = "", ""
        self._has_caption = False

    def read(self, chunk: bytes) -> Iterator[ServedText | ServedCaption]:
        """Yield the results of the events that end in the next bytes of an answer.

        Raises:
            CutlineError: The error that the server sent, or an event that is not one of a caption.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            field, _, value = line.removesuffix(b"\r").decode(errors="replace").partition(": ")
            if field == "event":
                self._event = value
            elif field == "data":
                self._data += value
            elif not field and self._data:
                with foreign_answers(self._url):
                    yield from self._read_event(self._event, json.loads(self._data))
                self._event, self._data = "", ""

    def close(self) -> None:
        """End the answer.

        Raises:
            CutlineError: It ended before the caption.
        """
        if not self._has_caption:
            raise CutlineError(
                f"{self._name}: the answer of {self._url} ended before the caption; try again"
            )

    def _read_event(self, event: str, data: Any) -> Iterator[ServedText | ServedCaption]:
        if event == "error":
            raise make_error(data["error"], self._name)
        if event == "caption":
            self._has_caption = True
            yield read_caption(data["caption"])
        elif event == "text":
            text = read_text_event(data)
            if self._draft:
                yield text
            elif text.text:
                yield replace(text, draft="")
