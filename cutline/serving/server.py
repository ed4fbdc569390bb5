"""Run the server: listen, load the models, answer requests, and stop after the last one."""

import errno
import logging
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from cutline.config import ServeConfig
from cutline.errors import CutlineError
from cutline.interrupt import Interrupted
from cutline.serving.access import read_tokens
from cutline.serving.app import make_app
from cutline.serving.protocol import make_protocol
from cutline.serving.service import CaptionService, ServedModels

KEEP_ALIVE = 15  # seconds that an idle connection stays open
BACKLOG = 2048  # connections that wait to be accepted


class Server(uvicorn.Server):
    """A server that answers what it has begun before it stops.

    Attributes:
        error: Why it stopped by itself; None if a signal stopped it.
    """

    def __init__(self, config: uvicorn.Config, service: CaptionService) -> None:
        """Make a server."""
        super().__init__(config)
        self._service = service
        self.error: BaseException | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take no more requests at the first signal; stop at once at the second."""
        if self._service.draining:
            raise Interrupted("", sig)
        self._service.draining = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop: after the last request, if a signal came or the model failed."""
        if self._service.has_failed and not self._service.draining:
            self.error = CutlineError(
                "the model has failed, as the log says: start the server again"
            )
            self._service.draining = True
        if self._service.draining and not self._service.num_active:
            return True
        return await super().on_tick(counter)

    def fail(self, error: BaseException) -> None:
        """Stop because of an error, from any thread."""
        self.error, self.should_exit = error, True


def run_server(
    service: CaptionService,
    load: Callable[[], ServedModels],
    batch_size: int,
    announce: Callable[[str], None],
) -> None:
    """Serve until a signal comes.

    Args:
        service: Answers requests, once it has models.
        load: Loads the models, in a thread of its own, while the server listens.
        batch_size: Images captioned together.
        announce: Called with the address, before the models are loaded, and with what happens.

    Raises:
        CutlineError: The address is in use, or the models cannot be loaded.
        Interrupted: A second signal came before the last request was answered.
    """
    config, limits = service.config, service.limits
    tokens = read_tokens(config.token_file)
    listener = listen(config)
    raise_file_limit(limits.max_connections)
    for name in ("uvicorn.error", "python_multipart"):  # errors are logged by ours
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it warns of clients that have gone
    if config.access_log:
        log_requests()
    try:
        server = Server(make_uvicorn_config(service, tokens), service)
    except OSError as error:  # ssl.SSLError, too
        listener.close()
        reason = error.strerror or str(error)
        raise CutlineError(
            f"{config.tls_cert}: the certificate or its key cannot be read ({reason}); check both"
        ) from None

    def load_models() -> None:
        try:
            models = load()
            service.start(models, batch_size)
        except BaseException as error:
            server.fail(error)
        else:
            announce(f"{service.name} is loaded")

    announce(f"listening at {format_address(config, listener)}")
    threading.Thread(target=load_models, name="cutline-load", daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        service.close()
    if server.error is not None:
        raise server.error


def log_requests() -> None:
    """Let uvicorn print a line for every request on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("uvicorn.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def make_uvicorn_config(service: CaptionService, tokens: Sequence[bytes]) -> uvicorn.Config:
    """Return the settings of uvicorn, whose certificates are read."""
    return configure_uvicorn(make_app(service, tokens), service)


def configure_uvicorn(app: ASGIApp, service: CaptionService) -> uvicorn.Config:
    """Return the settings of uvicorn for an application, with the limits of a service."""
    config = service.config
    uvicorn_config = uvicorn.Config(
        app,
        http=make_protocol(service.limits),
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=config.access_log,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=1,
        ssl_certfile=config.tls_cert or None,
        ssl_keyfile=config.tls_key or None,
    )
    uvicorn_config.load()
    return uvicorn_config


def listen(config: ServeConfig) -> socket.socket:
    """Return a socket that listens at the address of the settings.

    Raises:
        CutlineError: The address is in use, or not one of this machine.
    """
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind, protocol)
        try:
            if sys.platform != "win32":  # where it would let two servers share a port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        flag = "--port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else "--host"
        raise CutlineError(
            f"{config.host}:{config.port}: the server cannot listen there ({error.strerror}); "
            f"choose another {flag}"
        ) from None
    return listener


def format_address(config: ServeConfig, listener: socket.socket) -> str:
    """Return the address of the server, as people type it."""
    host, port = listener.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if config.tls_cert else 'http'}://{name}:{port}"


def raise_file_limit(num_connections: int) -> None:
    """Let this process open a file for each connection, as far as the system allows."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = num_connections + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
