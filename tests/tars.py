"""`write_tar`: tar files for tests."""

import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path


def write_tar(path: Path, members: Mapping[str, bytes | str], mode: str = "w") -> str:
    """Write a tar file with these members, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, BytesIO(data))
    return str(path)
