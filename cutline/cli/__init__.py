"""The command line, one file per command: results go to stdout or a file, messages to stderr."""

from cutline.cli.main import main

__all__ = ["main"]
