"""The kit's own errors. Each message says what is wrong, where, and what to do about it."""


class KitError(Exception):
    """Base of every error the kit raises on purpose."""


class ParameterError(KitError):
    """A notebook parameter is unknown, missing, mistyped or out of range."""


class InputError(KitError):
    """A file or folder is absent or not in the format its owner publishes."""


class AccountingError(KitError):
    """Statuses do not add up to the input rows: a row vanished or was doubled."""


class AuditError(KitError):
    """A model is not what the recipe says: experts not in 4 bit, adapters missing, a label split in two."""


class TeacherError(KitError):
    """The teacher cannot be asked: no recording, no permission, no budget, a broken store."""
