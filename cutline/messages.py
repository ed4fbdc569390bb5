"""Show values, names, durations and errors in messages: on one line, and shortened."""

MAX_VALUE_LENGTH = 60
"""characters of a value or name that a message repeats"""
MAX_TEXT_LENGTH = 200
"""characters of a path, a list of names or the message of another library"""


def format_value(value: object) -> str:
    """Return a value as Python writes it, shortened."""
    try:
        return _shorten(repr(value), MAX_VALUE_LENGTH)
    except ValueError:  # Python prints no integer of more than 4300 digits
        return "a number with thousands of digits"
    except RecursionError:
        return "a deeply nested value"


def format_name(name: object) -> str:
    """Return a name without quotes, shortened."""
    return _shorten(one_line(str(name)), MAX_VALUE_LENGTH)


def format_text(text: str) -> str:
    """Return a path, or several names, shortened."""
    return _shorten(one_line(text[: MAX_TEXT_LENGTH + 1]), MAX_TEXT_LENGTH)


def first_line(error: BaseException) -> str:
    """Return the first line of the message of another library, or else the type of the error."""
    lines = str(error).strip().splitlines()
    return format_text(lines[0].rstrip()) if lines else type(error).__name__


def one_line(text: str) -> str:
    r"""Return a text whose line breaks and control characters are escaped, such as `\n`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def count_noun(count: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun, such as "1 image" or "2,000 images".

    Args:
        count: The number.
        singular: What follows 1.
        plural: What follows other numbers (default: `singular` with an s).
    """
    return f"{count:,} {singular if count == 1 else plural or f'{singular}s'}"


def format_hours(hours: float) -> str:
    """Return a duration such as "3.4 hours" or "12 minutes"."""
    return f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.2g} minutes"


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
