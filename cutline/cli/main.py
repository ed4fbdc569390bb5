"""Which command was meant, and how it ended.

Exit codes: 0 all done; 1 something failed; 2 wrong usage; 3 some inputs failed and were listed; 130 stopped by Ctrl-C.
"""

import os
import sys
from collections.abc import Callable, Sequence

import tyro

from cutline.cli.caption import caption
from cutline.cli.check import check
from cutline.cli.compare import compare
from cutline.cli.console import warn
from cutline.cli.convert import convert
from cutline.cli.demo import demo
from cutline.cli.evaluate import evaluate
from cutline.cli.score import score
from cutline.cli.train import train_command
from cutline.errors import ConfigError, CutlineError

COMMANDS: dict[str, Callable[..., int]] = {
    "demo": demo,
    "caption": caption,
    "check": check,
    "train": train_command([]),
    "evaluate": evaluate,
    "compare": compare,
    "score": score,
    "convert": convert,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    sys.exit(run_command(list(sys.argv[1:] if argv is None else argv)))


def run_command(argv: list[str]) -> int:
    """Run a command and return its exit code."""
    try:
        code = dispatch(argv)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        warn(str(error))
        return 2
    except CutlineError as error:
        warn(str(error))
        return 1
    except KeyboardInterrupt as error:
        warn(str(error) or "stopped")
        return 130
    except BrokenPipeError:  # `cutline caption … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        warn(f"{error.filename or 'writing'}: {error.strerror or error}")
        return 1


def dispatch(argv: list[str]) -> int:
    """Find the command and run it."""
    name, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("--help", "-h"):
        sys.stdout.write(overview())
        return 0 if argv else 2
    if name == "--version":
        from cutline import __version__

        sys.stdout.write(f"cutline {__version__}\n")
        return 0
    if name not in COMMANDS:
        raise ConfigError(f"there is no command {name!r}; there are {', '.join(COMMANDS)}")
    command = train_command(rest) if name == "train" else COMMANDS[name]
    return tyro.cli(
        command, prog=f"cutline {name}", args=rest, config=(tyro.conf.AvoidSubcommands,)
    )


def overview() -> str:
    """What `cutline --help` says."""
    lines = [
        f"  {name:<10}{(command.__doc__ or '').splitlines()[0]}"
        for name, command in COMMANDS.items()
    ]
    return "\n".join(
        [
            "usage: cutline COMMAND …",
            "",
            "Train, run and measure BLIP image captioners.",
            "",
            *lines,
            "",
            "`cutline COMMAND --help` shows what a command takes. Start with `cutline demo`.",
            "",
        ]
    )
