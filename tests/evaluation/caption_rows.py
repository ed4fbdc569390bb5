"""Types of the fixtures that write caption files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Rows = list[dict[str, Any]]
Write = Callable[[str, Rows], Path]
