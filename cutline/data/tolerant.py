"""Go on after errors: what cannot be read is yielded as a `DataError` among what can be."""

from collections.abc import Callable, Iterable, Iterator
from typing import ParamSpec, TypeAlias, TypeVar

from cutline.errors import DataError

P = ParamSpec("P")
T = TypeVar("T")
Tolerant: TypeAlias = Iterator[T | DataError]


def attempt(parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | DataError:
    """Return what a function returns, or the DataError that it raises."""
    try:
        return parse(*args, **kwargs)
    except DataError as error:
        error.__context__ = None  # its frames would keep the row in memory
        return error.with_traceback(None)


def raise_errors(items: Iterable[T | DataError]) -> Iterator[T]:
    """Yield items up to the first error, which is raised.

    Raises:
        DataError: The first error among the items.
    """
    for item in items:
        if isinstance(item, DataError):
            raise item
        yield item


def read_files(paths: Iterable[str], read: Callable[[str], Tolerant[T]]) -> Tolerant[T]:
    """Yield the items of several files, and the error of each file that cannot be read.

    Args:
        paths: The files.
        read: Yields the items of a file.

    Raises:
        DataError: None of the files can be read; it is the error of the first.
    """
    errors: list[DataError] = []  # until an item shows that a file can be read
    is_readable = False
    for path in paths:
        try:
            for item in read(path):
                if not is_readable:
                    yield from errors
                    errors, is_readable = [], True
                yield item
        except DataError as error:
            if is_readable:
                yield error
            else:
                errors.append(error)
    if errors:
        raise errors[0]
