"""A certificate of localhost that nobody has signed."""

import subprocess
from pathlib import Path

import pytest


def make_certificate(folder: Path) -> Path:
    """Write a certificate and its key, `.key`; skip the test where openssl is missing."""
    path = folder / "localhost.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext"
    try:
        subprocess.run(
            [*command.split(), names, "-keyout", path.with_suffix(".key"), "-out", path],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl makes no certificate here")
    return path
