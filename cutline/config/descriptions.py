"""The descriptions of settings: the docstrings below the fields of their dataclasses."""

import ast
import dataclasses
import inspect
import textwrap
from functools import cache


def describe_field(settings: type, name: str) -> str:
    """Return the docstring of a field of a dataclass, or of the base that it comes from."""
    bases = (base for base in settings.__mro__ if dataclasses.is_dataclass(base))
    texts = (_read_docstrings(base) for base in bases)
    return next((each[name] for each in texts if name in each), "")


@cache
def _read_docstrings(settings: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for field, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            texts[field.target.id] = " ".join(str(following.value.value).split())
    return texts
