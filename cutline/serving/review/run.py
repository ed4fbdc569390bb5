"""Run a review: serve its page on this machine until it ends, then write the captions."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cutline.config import DataSource, ServeConfig, ServeLimits, UrlPolicy
from cutline.serving.review.app import make_review_app
from cutline.serving.review.open import open_captions
from cutline.serving.review.review import Review
from cutline.serving.review.session import ReviewSession
from cutline.serving.server import Server, configure_uvicorn, format_address, listen
from cutline.serving.service import CaptionService, ServedModels

LIMITS = ServeLimits(max_pixels=100_000_000, max_image_bytes=512 << 20, max_connections=64)
"""the images are those of this machine, not of anybody"""


@dataclass(frozen=True)
class ReviewEnd:
    """What came of a review."""

    counts: dict[str, int]
    written: str
    """where the captions are"""


def run_review(
    source: DataSource,
    port: int,
    model: str,
    load: Callable[[], ServedModels],
    announce: Callable[[str, ReviewSession], None],
) -> ReviewEnd:
    """Serve the page of a review until a signal comes, or a person ends it there.

    Args:
        source: The captions.
        port: Port to listen at, on this machine only (0: any that is free).
        model: Name of the captioner; empty for none.
        load: Loads it, while the page is shown already.
        announce: Called with the address of the page, and the review.

    Raises:
        CutlineError: The captions cannot be read or written, or the port is in use.
        Interrupted: A second signal came.
    """
    service = CaptionService(model, ServeConfig(port=port), LIMITS, UrlPolicy())
    listener = listen(service.config)
    try:
        store = open_captions(source)
    except BaseException:
        listener.close()
        raise
    review = Review(store)
    try:
        session = ReviewSession(review, store.name, bool(model))
        app = make_review_app(session, service)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # errors are logged by ours
        server = Server(configure_uvicorn(app, service), service)
        if model:
            _load_in_background(service, server, load)
        announce(f"{format_address(service.config, listener)}/{session.key}/", session)
        server.run(sockets=[listener])
        if server.error is not None:
            raise server.error
    finally:
        service.close()
        listener.close()
        written = review.close()
    return ReviewEnd(review.count_states(), written)


def _load_in_background(
    service: CaptionService, server: Server, load: Callable[[], ServedModels]
) -> None:
    def load_models() -> None:
        try:
            service.start(load(), 1)
        except BaseException as error:
            server.fail(error)

    threading.Thread(target=load_models, name="cutline-load", daemon=True).start()
