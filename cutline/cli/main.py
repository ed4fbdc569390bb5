"""The entry point: finds the command, runs it, and turns errors into messages and exit codes."""

import sys
import traceback
from collections.abc import Callable, Sequence

import tyro

from cutline.cli.calibrate import calibrate_command
from cutline.cli.capfilt import capfilt_command
from cutline.cli.caption import caption_command
from cutline.cli.check import make_check_command
from cutline.cli.compare import compare_command
from cutline.cli.console import prepare_streams, print_result
from cutline.cli.convert import convert_command
from cutline.cli.demo import demo_command
from cutline.cli.evaluate import evaluate_command
from cutline.cli.explain import explain_command
from cutline.cli.failure import report_failure
from cutline.cli.filter import filter_command
from cutline.cli.help import format_help
from cutline.cli.index import index_command
from cutline.cli.report import report_command
from cutline.cli.review import review_command
from cutline.cli.score import score_command
from cutline.cli.search import search_command
from cutline.cli.serve import serve_command
from cutline.cli.train import make_train_command
from cutline.config.read import find_section
from cutline.config.renames import reject_renamed_flags
from cutline.errors import ConfigError, SettingError
from cutline.interrupt import find_interrupt, interrupt_on_signals

COMMANDS: dict[str, Callable[..., int]] = {
    "demo": demo_command,
    "caption": caption_command,
    "check": make_check_command([]),
    "train": make_train_command([]),
    "report": report_command,
    "evaluate": evaluate_command,
    "compare": compare_command,
    "score": score_command,
    "calibrate": calibrate_command,
    "explain": explain_command,
    "filter": filter_command,
    "capfilt": capfilt_command,
    "convert": convert_command,
    "index": index_command,
    "search": search_command,
    "serve": serve_command,
    "review": review_command,
}

RECIPE_COMMANDS = {"check": make_check_command, "train": make_train_command}
"""commands whose flags default to the settings of a recipe on the command line"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code."""
    prepare_streams()
    try:
        interrupt_on_signals()
        code = run_command(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt as error:  # before the command began, or while it reported an error
        code = report_failure(error)
    sys.exit(code)


def run_command(argv: list[str]) -> int:
    """Run a command and return its exit code; with --debug, show the traceback of an error."""
    try:
        return dispatch([word for word in argv if word != "--debug"])
    except (Exception, KeyboardInterrupt) as error:
        if "--debug" in argv:
            sys.stderr.write(traceback.format_exc())
        return report_failure(find_interrupt(error))


def dispatch(argv: list[str]) -> int:
    """Run the command that `argv` names, and return its exit code."""
    name, arguments = (argv[0], argv[1:]) if argv else ("--help", [])
    if name in ("--help", "-h"):
        print_result(format_overview())
        return 0 if argv else 2
    if name == "--version":
        from cutline import __version__

        print_result(f"cutline {__version__}\n")
        return 0
    if name not in COMMANDS:
        raise ConfigError(f"unknown command {name!r}; the commands are {', '.join(COMMANDS)}")
    command = RECIPE_COMMANDS[name](arguments) if name in RECIPE_COMMANDS else COMMANDS[name]
    if "--help" in arguments or "-h" in arguments:
        print_result(format_help(name, command))
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
        "129, 130 and 143 stopped by SIGHUP, Ctrl-C and SIGTERM.",
    ]
    return "\n".join(lines) + "\n"
