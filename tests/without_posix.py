"""A script that imports all of cutline and runs a command, as on a system without POSIX modules.

Usage: python without_posix.py ARGUMENTS-OF-CUTLINE...

The standard library itself may still use these modules: on Windows it has other code for that.
"""

import builtins
import importlib
import os
import pkgutil
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
NAMES = {
    os: ("fork", "forkpty", "getuid", "geteuid", "killpg", "sched_getaffinity", "sysconf"),
    signal: ("SIGALRM", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGXFSZ", "alarm", "setitimer"),
}
import_module = builtins.__import__


def import_without_posix(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    importer = str((globals or {}).get("__name__", "")).partition(".")[0]
    if level == 0 and name in MODULES and importer not in sys.stdlib_module_names:
        raise ModuleNotFoundError(f"No module named {name!r}, imported by {importer}", name=name)
    return import_module(name, globals, locals, fromlist, level)


def import_all() -> None:
    import cutline

    for module in pkgutil.walk_packages(cutline.__path__, "cutline."):
        if module.name != "cutline.__main__":
            importlib.import_module(module.name)


if __name__ == "__main__":
    builtins.__import__ = import_without_posix
    for module, names in NAMES.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    import_all()
    from cutline.cli import main

    main(sys.argv[1:])
