"""The help pages: flags in groups, one for each settings dataclass, and examples.

tyro parses the command line, but its help does not group flags without a prefix, and repeats empty
defaults. These pages are made from the same signatures and docstrings.
"""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cutline.config.descriptions import describe_field

WIDTH = 100
INDENT = 26  # columns of the descriptions


@dataclasses.dataclass(frozen=True)
class Flag:
    """A line of a help page."""

    names: str
    """such as `-o FILE, --output FILE`"""
    text: str
    default: str = ""


@dataclasses.dataclass
class Group:
    """Flags under a title."""

    title: str
    flags: list[Flag]


def format_help(name: str, command: Callable[..., int]) -> str:
    """Return the help page of the command `name`."""
    doc = inspect.getdoc(command) or ""
    description, _, arguments = doc.partition("Args:\n")
    description, _, examples = description.partition("Examples:\n")
    texts = _parse_arguments(arguments)
    groups = [Group("Arguments", []), Group("Options", [])]
    for parameter, (hint, options) in _parameters(command).items():
        default = inspect.signature(command).parameters[parameter].default
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            groups += _settings_groups(hint, default, "")
            continue
        text = options.help or texts.get(parameter, "")
        if options.positional:
            groups[0].flags.append(Flag(options.metavar or parameter.upper(), text))
        else:
            flag = _make_flag(parameter, hint, options, text, default)
            groups[1].flags.append(flag)
    groups[1].flags.append(Flag("--debug", "show the traceback of an error"))
    groups[1].flags.append(Flag("-h, --help", "show this page and exit"))
    usage = " ".join(flag.names for flag in groups[0].flags)
    parts = [f"usage: cutline {name} {usage} [OPTIONS]".replace("  ", " "), description.strip()]
    if examples:
        lines = [line.strip() for line in examples.splitlines() if line.strip()]
        parts.append("Examples:\n" + "\n".join(f"  {line}" for line in lines))
    parts += [_format_group(group) for group in groups if group.flags]
    return "\n\n".join(parts) + "\n"


@dataclasses.dataclass(frozen=True)
class Options:
    """The tyro options of a flag."""

    positional: bool = False
    suppressed: bool = False
    name: str | None = None
    metavar: str = ""
    help: str = ""
    aliases: tuple[str, ...] = ()


def _unwrap(hint: Any) -> tuple[Any, Options]:
    """Return the type of an annotated parameter or field, and tyro's options for it."""
    from tyro.conf import Positional, Suppress

    (positional,) = get_args(Positional[int])[1:]
    (suppressed,) = get_args(Suppress[int])[1:]
    options = Options()
    while get_origin(hint) is Annotated:
        hint, *metadata = get_args(hint)
        for item in metadata:
            if item == positional:
                options = dataclasses.replace(options, positional=True)
            elif item == suppressed:
                options = dataclasses.replace(options, suppressed=True)
            elif hasattr(item, "metavar"):
                options = dataclasses.replace(
                    options,
                    name=options.name if item.name is None else item.name,
                    metavar=item.metavar or options.metavar,
                    help=item.help or options.help,
                    aliases=tuple(item.aliases or options.aliases),
                )
    return hint, options


def _parameters(command: Callable[..., int]) -> dict[str, tuple[Any, Options]]:
    hints = get_type_hints(command, include_extras=True)
    hints.pop("return", None)
    return {name: _unwrap(hint) for name, hint in hints.items()}


def _settings_groups(kind: type, defaults: Any, prefix: str) -> list[Group]:
    """Return the group of a settings dataclass, followed by those of the dataclasses inside it."""
    title = re.split("[:;(.]", inspect.getdoc(kind) or kind.__name__)[0].strip()
    group = Group(f"{title} ({prefix[:-1]})" if prefix else title, [])
    nested: list[Group] = []
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint, options = _unwrap(hints[field.name])
        default = getattr(defaults, field.name)
        if options.suppressed:
            continue
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            inner = prefix if options.name == "" else f"{prefix}{field.name}."
            nested += _settings_groups(hint, default, inner)
        else:
            text = options.help or describe_field(kind, field.name)
            group.flags.append(_make_flag(prefix + field.name, hint, options, text, default))
    return [group, *nested]


def _make_flag(name: str, hint: Any, options: Options, text: str, default: Any) -> Flag:
    flag = "--" + (options.name or name).replace("_", "-")
    if hint is bool:
        head, _, last = flag.rpartition(".")
        negative = f"{head}.no-{last}" if head else f"--no-{flag[2:]}"
        names = f"{flag}, {negative}" if default else flag
    else:
        metavar = options.metavar or _metavar(hint)
        names = ", ".join(f"{each} {metavar}" for each in (*options.aliases, flag))
    if default is inspect.Parameter.empty:
        return Flag(names, f"{text} (required)")
    # Some texts explain their default, such as "(0: off)".
    explained = f"({default}:" in text or default in (None, "", ())
    return Flag(names, text, "" if explained or default is False else _format_default(default))


def _metavar(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "{" + ",".join(str(choice) for choice in arguments if choice != "") + "}"
    if origin in (Union, UnionType):
        return _metavar(next(kind for kind in arguments if kind is not NoneType))
    if origin in (tuple, list):
        if arguments[-1] is Ellipsis or origin is list:
            return f"[{_metavar(arguments[0])} …]"
        return " ".join(map(_metavar, arguments))
    return {str: "TEXT", int: "N", float: "X"}.get(hint, str(hint))


def _format_default(default: Any) -> str:
    if default is True:
        return "on"
    values = default if isinstance(default, tuple) else (default,)
    return " ".join(map(str, values))


def _parse_arguments(section: str) -> dict[str, str]:
    """Return the entries of the `Args:` section of a Google-style docstring."""
    texts: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent(section).splitlines():
        if line and not line.startswith(" "):
            name, _, text = line.partition(":")
            texts[name] = text.strip()
        elif name and line.strip():
            texts[name] += f" {line.strip()}"
    return {name: _as_phrase(text) for name, text in texts.items()}


def _as_phrase(text: str) -> str:
    """Return a sentence as the fields of settings are documented: no capital, no full stop."""
    first = text[:1].lower() if text[1:2].islower() else text[:1]
    return (first + text[1:]).removesuffix(".")


def _format_group(group: Group) -> str:
    return "\n".join([f"{group.title}:", *(line for flag in group.flags for line in _lines(flag))])


def _lines(flag: Flag) -> Iterator[str]:
    """Yield the lines of a flag: its names, then its description in a column of its own."""
    text = f"{flag.text} (default: {flag.default})" if flag.default else flag.text
    lines = textwrap.wrap(text.strip(), WIDTH - INDENT, break_on_hyphens=False) or [""]
    head = f"  {flag.names}"
    if len(head) < INDENT - 1:
        yield f"{head:<{INDENT}}{lines.pop(0)}".rstrip()
    else:
        yield head
    yield from (" " * INDENT + line for line in lines)
