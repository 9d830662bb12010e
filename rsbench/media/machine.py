"""Tell a machine in trouble from a file that is damaged: only the latter fails again tomorrow."""

from __future__ import annotations

import errno

_ERRNOS = frozenset(
    (
        *(errno.EMFILE, errno.ENFILE, errno.EACCES),
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
    )
)
"""Too many open files, no permission, a disk or a server that does not answer."""

_ENOUGH_BYTES = 64 << 20
"""More than a reader takes before it has seen how large a frame is."""


def is_of_machine(error: BaseException) -> bool:
    """Say whether an error tells of the machine, not of what a file holds.

    A damaged file may ask for more memory than any machine has; so the machine is asked for some.
    """
    number = getattr(error, "errno", None)
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return not _has_memory()
    return number in _ERRNOS


def _has_memory() -> bool:
    try:
        bytearray(_ENOUGH_BYTES)
    except MemoryError:
        return False
    return True
