"""The entry point: finds the command, runs it, and turns errors into messages and exit codes."""

import os
import sys
from collections.abc import Callable, Sequence

import tyro

from cutline.cli.caption import caption_command
from cutline.cli.check import make_check_command
from cutline.cli.compare import compare_command
from cutline.cli.console import print_message
from cutline.cli.convert import convert_command
from cutline.cli.demo import demo_command
from cutline.cli.evaluate import evaluate_command
from cutline.cli.help import format_help
from cutline.cli.score import score_command
from cutline.cli.train import make_train_command
from cutline.config.read import find_section
from cutline.config.renames import reject_renamed_flags
from cutline.errors import ConfigError, CutlineError, SettingError

COMMANDS: dict[str, Callable[..., int]] = {
    "demo": demo_command,
    "caption": caption_command,
    "check": make_check_command([]),
    "train": make_train_command([]),
    "evaluate": evaluate_command,
    "compare": compare_command,
    "score": score_command,
    "convert": convert_command,
}

RECIPE_COMMANDS = {"check": make_check_command, "train": make_train_command}
"""commands whose flags default to the settings of a recipe on the command line"""


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
        print_message(str(error))
        return 2
    except CutlineError as error:
        print_message(str(error))
        return 1
    except KeyboardInterrupt as error:
        print_message(str(error) or "stopped")
        return 130
    except BrokenPipeError:  # `cutline caption … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print_message(f"{error.filename or 'writing'}: {error.strerror or error}")
        return 1


def dispatch(argv: list[str]) -> int:
    """Run the command that `argv` names, and return its exit code."""
    name, arguments = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("--help", "-h"):
        sys.stdout.write(format_overview())
        return 0 if argv else 2
    if name == "--version":
        from cutline import __version__

        sys.stdout.write(f"cutline {__version__}\n")
        return 0
    if name not in COMMANDS:
        raise ConfigError(f"unknown command {name!r}; the commands are {', '.join(COMMANDS)}")
    command = RECIPE_COMMANDS[name](arguments) if name in RECIPE_COMMANDS else COMMANDS[name]
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(format_help(name, command))
        return 0
    reject_renamed_flags(arguments)
    config = (tyro.conf.AvoidSubcommands,)
    try:
        return tyro.cli(command, prog=f"cutline {name}", args=arguments, config=config)
    except SettingError as error:  # only the flags of `train` have sections
        section = find_section(error.settings) if name == "train" else ""
        raise ConfigError(f"{section}{error}") from None


def format_overview() -> str:
    """Return the text of `cutline --help`."""
    commands = [
        f"  {name:<10}{(command.__doc__ or '').splitlines()[0]}"
        for name, command in COMMANDS.items()
    ]
    lines = [
        "usage: cutline COMMAND …",
        "",
        "Train, run and measure BLIP image captioners.",
        "",
        *commands,
        "",
        "`cutline COMMAND --help` lists the arguments of a command. Start with `cutline demo`.",
        "",
        "Exit codes: 0 success; 1 failure; 2 wrong usage; 3 some inputs failed and were listed;",
        "130 stopped by Ctrl-C, or training by SIGTERM.",
    ]
    return "\n".join(lines) + "\n"
