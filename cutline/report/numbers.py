"""Numbers as a report shows them."""

import math
from collections.abc import Sequence

MINUS = "−"
"""the sign of negative numbers, as wide as +"""
_MAX_DECIMALS = 6


def format_number(value: float) -> str:
    """Return a number with three significant digits, or as an integer if it is a large one."""
    if not math.isfinite(value):
        return "∞" if value > 0 else f"{MINUS}∞" if value < 0 else "–"
    text = f"{value:,.3g}" if abs(value) < 999.5 else f"{value:,.6g}"
    return text.replace("-", MINUS) if "e" not in text else format_scientific(value)


def format_scientific(value: float) -> str:
    """Return a number with three significant digits and a power of 10, such as `5e-4`, or 0."""
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    text = f"{float(mantissa):g}e{int(exponent)}" if value else "0"
    return f"{MINUS}{text[1:]}" if value < 0 else text


def format_signed(value: float, decimals: int) -> str:
    """Return a number with its sign, + or −; zero has none."""
    text = f"{abs(value):,.{decimals}f}"
    if not text.strip("0.,"):
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def format_fixed(value: float, decimals: int) -> str:
    """Return a number with a fixed number of decimals."""
    text = f"{abs(value):,.{decimals}f}"
    return f"{MINUS}{text}" if value < 0 and text.strip("0.,") else text


def format_interval(low: float, high: float, decimals: int = 3, signed: bool = False) -> str:
    """Return an interval such as `[0.020, 0.081]`, or `[+0.020, +0.081]` of a difference."""
    form = format_signed if signed else format_fixed
    return f"[{form(low, decimals)}, {form(high, decimals)}]"


def format_percent(value: float, decimals: int = 1) -> str:
    """Return a fraction as a percentage."""
    return f"{format_fixed(100 * value, decimals)} %"


def find_decimals(values: Sequence[float], is_percent: bool = False) -> int:
    """Return the decimals that show the largest of some numbers with about four digits."""
    finite = [abs(value) for value in values if math.isfinite(value)]
    largest = max(finite, default=0.0) * (100 if is_percent else 1)
    if is_percent:
        return 1
    if not largest:
        return 3
    return min(_MAX_DECIMALS, max(0, 3 - math.floor(math.log10(largest)) - (largest < 1)))


def format_value_of_column(value: object, decimals: int, signed: bool, percent: bool) -> str:
    """Return a cell of a column whose floats have the given number of decimals."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–" if math.isnan(value) else format_number(value)
        number = 100 * value if percent else value
        form = format_signed if signed else format_fixed
        return form(number, decimals) + (" %" if percent else "")
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:+,d}".replace("-", MINUS) if signed else f"{value:,d}"
    return "" if value is None else str(value)
