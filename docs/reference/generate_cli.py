"""Write docs/reference/cli.md from the help pages: `python docs/reference/generate_cli.py`."""

from pathlib import Path

from cutline.cli.help import format_help
from cutline.cli.main import COMMANDS, format_overview

PAGE = Path(__file__).with_name("cli.md")


def format_page() -> str:
    """Return the page: the overview, then the help of every command."""
    parts = [
        "# Command line\n",
        "This page is generated from `cutline COMMAND --help`.\n",
        f"```text\n{format_overview()}```\n",
    ]
    for name, command in COMMANDS.items():
        parts.append(f"## cutline {name}\n\n```text\n{format_help(name, command)}```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(format_page(), encoding="utf-8")
