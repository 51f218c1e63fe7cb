"""The kit's own errors. Each message says what is wrong, where, and what to do about it."""

import sys
from collections.abc import Callable
from functools import wraps


class KitError(Exception):
    """Base of every error the kit raises on purpose."""


class ParameterError(KitError):
    """A notebook parameter is unknown, missing, mistyped or out of range."""


class InputError(KitError):
    """A file or folder is absent or not in the format its owner publishes."""


class AccountingError(KitError):
    """Statuses do not add up to the input rows: a row vanished or has a duplicate."""


class AuditError(KitError):
    """A model is not what the recipe says: experts not in 4 bit, adapters missing, a label split in
    two.
    """


class TeacherError(KitError):
    """The teacher cannot be asked: no recording, no permission, no budget, a broken store."""


def command(main: Callable[..., int | None]) -> Callable[..., int]:
    """A command line that ends with one line on stderr and exit code 1 where the kit raises an
    error of its own.
    """

    @wraps(main)
    def run(*arguments: object) -> int:
        try:
            return main(*arguments) or 0
        except KitError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1

    return run
