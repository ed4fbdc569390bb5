"""The command line: one file per command. Results go to stdout or a file, everything else to stderr."""

from cutline.cli.main import main

__all__ = ["main"]
