"""Who may use the server: hosts, origins, tokens, TLS."""

import re
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forked_server import fork_server
from hypothesis import given
from hypothesis import strategies as st
from random_captioner import save_captioner
from starlette.testclient import TestClient

from cutline.cli.main import run_command
from cutline.config import ServeConfig, ServeLimits, UrlPolicy
from cutline.errors import ConfigError
from cutline.serving.access import read_tokens
from cutline.serving.app import make_app
from cutline.serving.service import CaptionService

TOKENS = (b"first-token-1234", b"second-token-5678")
OPEN = ("/", "/healthz", "/static/index.html")
CLOSED = ("/openapi.json", "/metrics", "/v1/models", "/v1/info", "/none", "/healthz/")
POST = ("/v1/captions", "/v1/scores", "/v1/explanations", "/v1/matches")


def make_client(tokens: tuple[bytes, ...] = (), url: str = "", **settings: Any) -> TestClient:
    """Return a client of a server that has no model: what is let in gets 503, or more."""
    config = ServeConfig(**settings)
    service = CaptionService("tiny", config, ServeLimits(), UrlPolicy())
    app = make_app(service, tokens)
    return TestClient(app, url or "http://localhost:8000", follow_redirects=False)


def is_refused(client: TestClient, path: str = "/v1/captions", **headers: str) -> bool:
    """Return whether a write is forbidden."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = client.post(path, json={}, headers=named)
    if response.status_code != 403:
        assert response.status_code in (400, 404, 422, 503)
        return False
    error = response.json()["error"]
    assert error["type"] == "forbidden"
    assert error["param"] in ("Host", "Origin")
    return True


# Hosts


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost:1", "localhost.", "127.0.0.1", "127.0.0.1:8000", "[::1]:8000"),
        *("192.168.1.5", "[fe80::1]", "photos.example.org", "PHOTOS.example.org:443"),
    ],
)
def test_names_of_the_server_and_addresses_are_known(host: str) -> None:
    client = make_client(public_host=("photos.example.org",))
    assert not is_refused(client, Host=host)
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *("rebind.example", "localhost.rebind.example", "127.0.0.1.rebind.example", "", ":8000"),
        *("localhost@rebind.example", "rebind.example@localhost", "localhost#.rebind.example"),
        *("localhost/.rebind.example", "rebind.example/@localhost", "localhost\\@rebind.example"),
        *("[::1", "[::1].rebind.example", "localhost rebind.example", "localhost:x", "localhost:"),
        *("127.1", "2130706433", "0x7f.1", "localhost..", "photos.example.org.rebind.example"),
        "localhost:1:2",
    ],
)
def test_other_names_are_refused_for_every_path(host: str) -> None:
    client = make_client(public_host=("photos.example.org",))
    assert is_refused(client, Host=host)
    for path in (*OPEN, *CLOSED):
        assert client.get(path, headers={"Host": host}).status_code == 403


@given(st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=30))
def test_no_other_host_is_known(host: str) -> None:
    known = re.fullmatch(r"localhost\.?(:\d+)?|[\d.]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?", host)
    response = make_client().get("/healthz", headers={"Host": host.encode("latin-1")})
    assert response.status_code == 403 or known


# Origins


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
        ("https://localhost", "https://localhost"),
        ("http://photos.example.org", "https://photos.example.org"),  # behind a proxy with TLS
        ("http://localhost:8000", "https://other.example"),
        ("http://localhost:8000", "https://Capital.example"),
    ],
)
def test_own_pages_and_allowed_ones_may_write(url: str, origin: str) -> None:
    allowed = ("https://other.example", "https://Capital.example")
    client = make_client(url=url, public_host=("photos.example.org",), cors_origin=allowed)
    assert not is_refused(client, Origin=origin)
    assert not is_refused(client, Origin=origin.lower())


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "", "http://rebind.example", "http://localhost", "http://localhost:8001", "*"),
        *("http://127.0.0.1:8000", "http://localhost:8000.rebind.example", "file://"),
        *(
            "http://localhost:8000@rebind.example",
            "http://other.example",
            "https://other.example:1",
        ),
        *("https://sub.other.example", "https://other.example.rebind.example", "localhost:8000"),
    ],
)
def test_other_pages_may_not_write(origin: str) -> None:
    client = make_client(cors_origin=("https://other.example",))
    for path in (*POST, "/none"):
        assert is_refused(client, path, Origin=origin)
    assert client.get("/healthz", headers={"Origin": origin}).status_code == 200


def test_other_pages_may_not_read_unless_they_are_allowed() -> None:
    origin, other = "https://other.example", "https://rebind.example"
    request = {"Access-Control-Request-Method": "POST"}
    for client in (make_client(), make_client(cors_origin=(origin,))):
        for path in ("/healthz", "/v1/captions"):
            response = client.options(path, headers={"Origin": other, **request})
            assert response.status_code >= 400
            assert "access-control-allow-origin" not in response.headers
        response = client.get("/healthz", headers={"Origin": other})
        assert "access-control-allow-origin" not in response.headers
    for name in ("Authorization", "Content-Type"):
        asked = {"Access-Control-Request-Headers": name, **request}
        response = client.options("/v1/captions", headers={"Origin": origin, **asked})
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == origin
        assert "access-control-allow-credentials" not in response.headers
    response = client.post("/v1/captions", headers={"Origin": origin}, json={})
    assert response.headers["access-control-allow-origin"] == origin  # errors can be read, too
    assert response.headers["vary"] == "Origin"
    assert "Retry-After" in response.headers["access-control-expose-headers"]


# Tokens


@pytest.mark.parametrize("token", TOKENS)
def test_any_of_the_tokens_opens_all_paths(token: bytes) -> None:
    client = make_client(TOKENS)
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {token.decode()}"}
        assert client.get("/openapi.json", headers=headers).status_code == 200
        assert client.post("/v1/captions", headers=headers, json={}).status_code in (422, 503)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "Bearer", "Bearer ", "Bearer x", "Basic first-token-1234", "first-token-1234"),
        *("Bearer first-token-123", "Bearer first-token-12345", "Bearer FIRST-TOKEN-1234"),
        *("Bearer first-token-1234,second-token-5678", "Bearer ä", "Bearer \xff", "Token x"),
        "Bearer first-token-1234 second-token-5678",
    ],
)
def test_nothing_else_does(header: str | None) -> None:
    client = make_client(TOKENS)
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for path in OPEN:
        assert client.get(path, headers=headers).status_code == 200
    assert client.get("/readyz", headers=headers).status_code == 503
    for path in CLOSED:
        response = client.get(path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["type"] == "unauthorized"
    for path in POST:
        assert client.post(path, headers=headers, json={}).status_code == 401
    for method in ("OPTIONS", "HEAD", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/v1/captions", headers=headers).status_code in (401, 405)
    body = client.get("/v1/info", headers=headers).text
    assert not any(token.decode() in body for token in TOKENS)


def test_without_tokens_the_header_is_ignored() -> None:
    response = make_client().get("/openapi.json", headers={"Authorization": "Bearer anything"})
    assert response.status_code == 200


def test_files_of_tokens(tmp_path: Path) -> None:
    file = tmp_path / "tokens.txt"
    assert read_tokens("") == ()
    file.write_text("# of our programs\n\nfirst-token-1234  \r\n  second-token-5678\n#x\n")
    assert read_tokens(str(file)) == TOKENS
    for text in ("", "\n\n", "# only-a-comment\n", "short", "two words here", "ümlaut-token-12"):
        file.write_text(text, "utf-8")
        with pytest.raises(ConfigError, match=r"tokens\.txt: .*token"):
            read_tokens(str(file))
    file.write_bytes(b"\xff\xfe\xff\xfe")
    for path in (file, tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError, match=r"the tokens cannot be read \("):
            read_tokens(str(path))


# The command


def fail(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Run a command, which must fail with one sentence; return the exit code and the sentence."""
    code = run_command(["serve", "--model", "missing", *map(str, words)])
    message = capsys.readouterr().err
    assert message.startswith("cutline: ")
    assert message.count("\n") == 1
    return code, message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "can be reached from other machines: name a token"),
        (["--host", "::"], "can be reached from other machines"),
        (["--host", "192.168.1.5"], "can be reached from other machines"),
        (["--host", "photos.example.org"], "can be reached from other machines"),
        (["--host", ""], "can be reached from other machines"),
        (["--host", "0.0.0.0", "--token-file", "missing.txt"], "the tokens cannot be read"),
        (["--token-file", "missing.txt"], "the tokens cannot be read"),
        (["--token-file", "missing.txt", "--no-auth"], "contradicts"),
        (["--tls-key", "key.pem"], "has no effect without"),
        (["--cors-origin", "other.example"], "must be origins"),
        (["--cors-origin", "*"], "must be origins"),
        (["--public-host", "http://other.example"], "must be names"),
        (["--port", "65536"], "port"),
        (["--header-timeout", "0"], "header_timeout"),
        (["--max-body-bytes", "0"], "max_body_bytes"),
    ],
)
def test_settings_that_would_let_in_others_are_wrong_usage(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, sentence = fail(capsys, *words)
    assert code == 2
    assert message in sentence


def test_every_address_may_be_used_with_tokens_or_without_by_request() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", "photos.example.org", ""):
        ServeConfig(host=host, token_file="tokens.txt")
        ServeConfig(host=host, no_auth=True)
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        ServeConfig(host=host)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate of localhost that nobody has signed; its key is beside it."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    for key in (".key", ".other"):
        try:
            subprocess.run(
                [*command.split(), names, "-keyout", path.with_suffix(key), "-out", path],
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("openssl makes no certificate here")
    path.with_suffix(".key").rename(path.with_suffix(".wrong"))
    path.with_suffix(".other").rename(path.with_suffix(".key"))
    return path


def test_certificates_that_cannot_be_used_end_the_command(
    certificate: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, wrong = certificate.with_suffix(".key"), certificate.with_suffix(".wrong")
    for words in (
        ["--tls-cert", certificate.with_name("missing.pem")],
        ["--tls-cert", certificate],  # without its key
        ["--tls-cert", certificate, "--tls-key", wrong],
        ["--tls-cert", key, "--tls-key", key],
        ["--tls-cert", certificate, "--tls-key", certificate.parent],
    ):
        code, message = fail(capsys, "--port", "0", *words)
        assert code == 1
        assert "the certificate or its key cannot be read (" in message


@pytest.fixture(scope="module")
def https_url(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("https")
    save_captioner(folder / "tiny")
    tokens = folder / "tokens.txt"
    tokens.write_bytes(b"\n".join(TOKENS))
    words = ("--tls-cert", certificate, "--tls-key", certificate.with_suffix(".key"))
    flags = map(str, (*words, "--token-file", tokens))
    with fork_server(folder, folder / "tiny", *flags) as server:
        yield server.url


@pytest.mark.skipif(sys.platform == "win32", reason="reads the log while it is written")
def test_a_server_with_tls_and_tokens(https_url: str, certificate: Path) -> None:
    assert https_url.startswith("https://127.0.0.1:")
    context = ssl.create_default_context(cafile=certificate)

    def read(path: str, **headers: str) -> int:
        request = urllib.request.Request(https_url + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20, context=context) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert read("/healthz") == 200
    assert read("/v1/info") == 401
    assert read("/v1/info", Authorization=f"Bearer {TOKENS[1].decode()}") == 200
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(certificate)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError):  # noqa: PT011
        urllib.request.urlopen(https_url, timeout=20, context=old)
    with pytest.raises(OSError):  # noqa: PT011
        urllib.request.urlopen(https_url.replace("https", "http"), timeout=20)
    assert read("/healthz") == 200
