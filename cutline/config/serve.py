"""Settings of the server: where it listens, who may use it, and its limits."""

from dataclasses import dataclass, fields
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from cutline.config.generation import GenerationConfig
from cutline.config.validation import (
    Settings,
    reject,
    require_at_least,
    require_between,
    require_positive,
)
from cutline.messages import format_value

ClientText = Literal["ignore", "prefix"]
"""what becomes of the text that clients of other APIs send"""
MAX_SECONDS = 86_400


@dataclass(frozen=True)
class ServeLimits(Settings):
    """Limits: what one request, and all requests together, may take. No request raises a limit."""

    max_queue: int = 256
    """images that wait; more are refused with status 429"""
    deadline: float = 60
    """seconds until a request must be done, waiting included; later it is ended with status 504"""
    max_body_bytes: int = 32 << 20
    """size of a request"""
    max_image_bytes: int = 20 << 20
    """size of an image file"""
    max_images: int = 16
    """images per request"""
    max_pixels: int = 50_000_000
    """width times height of an image"""
    max_candidates: int = 64
    """num_beams times num_captions; num_captions alone when sampling"""
    max_caption_length: int = 100
    """max_length of a caption, in tokens"""
    max_buffered_bytes: int = 512 << 20
    """size of all requests together that are being received or processed"""
    max_connections: int = 1024
    """connections; further ones are closed"""
    header_timeout: float = 10
    """seconds in which the headers of a request must arrive"""
    body_timeout: float = 60
    """seconds in which the body of a request must arrive"""
    send_timeout: float = 30
    """seconds in which a client must take the next part of a response"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "max_queue")
        sizes = [field.name for field in fields(self) if field.type is int]
        require_at_least(self, 1, *(name for name in sizes if name != "max_queue"))
        # Requests without settings have those of captions.
        require_at_least(self, GenerationConfig.num_beams, "max_candidates")
        require_at_least(self, GenerationConfig.max_length, "max_caption_length")
        seconds = [field.name for field in fields(self) if field.type is float]
        require_positive(self, *seconds, maximum=MAX_SECONDS)


@dataclass(frozen=True)
class ServeConfig(Settings):
    """Server: where it listens, and who may use it."""

    host: str = "127.0.0.1"
    """address to listen at; any other than this machine's own needs token_file or no_auth"""
    port: int = 8000
    """port to listen at (0: any that is free)"""
    token_file: str = ""
    """file of tokens, one per line: clients must send one of them as `Authorization: Bearer TOKEN`
    (default: none; such a header is then ignored)"""
    no_auth: bool = False
    """let everybody who reaches the address use the server, without a token"""
    tls_cert: str = ""
    """certificate of the server, in PEM, for https"""
    tls_key: str = ""
    """its private key"""
    cors_origin: tuple[str, ...] = ()
    """sites whose pages may call the server, such as https://photos.example.org"""
    public_host: tuple[str, ...] = ()
    """names, besides localhost and IP addresses, under which clients reach the server"""
    served_model_name: str = ""
    """name of the model in the API (default: the last part of its path or id)"""
    client_text: ClientText = "ignore"
    """ignore the instructions that clients of the OpenAI and Ollama APIs send, such as "Describe
    this image", which a captioner would continue word by word; or use them as prefix of captions"""
    allow_urls: bool = False
    """fetch images whose addresses clients send"""
    explanations: bool = False
    """load the captioner a second time, in fp32, for heat-maps from gradients"""
    access_log: bool = False
    """print a line for every request"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_between(self, 0, 65_535, "port")
        if self.tls_key and not self.tls_cert:
            reject(self, "tls_key", "has no effect without tls_cert: name both")
        if self.no_auth and self.token_file:
            reject(self, "no_auth", "contradicts token_file: remove one of them")
        if not (self.is_local or self.token_file or self.no_auth):
            reject(
                self,
                "host",
                f"{format_value(self.host)} can be reached from other machines: name a token_file, "
                "or set no_auth to allow every client",
            )
        for origin in self.cors_origin:
            if not is_origin(origin):
                hint = "must be origins such as https://photos.example.org"
                reject(self, "cors_origin", f"{hint}, not {format_value(origin)}")
        for name in self.public_host:
            if not name or set(name) & set("/:@ "):
                hint = "must be names such as photos.example.org, without port"
                reject(self, "public_host", f"{hint}, not {format_value(name)}")

    @property
    def is_local(self) -> bool:
        """Return whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def is_origin(text: str) -> bool:
    """Return whether a text is the origin of a page: scheme and host, and perhaps a port."""
    try:
        parts = urlsplit(text)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
        return is_web and text == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc
    except ValueError:
        return False
