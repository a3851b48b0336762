"""Reports on their way from a worker: what a worker sends may be as hostile as what it reads.

A worker that was taken over can lie about the files in its hand. It must not make its reader run
anything, so that nothing but the values of a report can be made of what it sends.
"""

from __future__ import annotations

import io
import pickle
from enum import Enum

from dicomguard import model
from dicomguard.model import Report

LONGEST = 64 << 20
"""Bytes of the longest answer that is read."""

_VALUES = {
    name: each
    for name, each in vars(model).items()
    if isinstance(each, type) and (hasattr(each, "__dataclass_fields__") or issubclass(each, Enum))
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        """Only the values of `dicomguard.model`."""
        if module != model.__name__ or name not in _VALUES:
            msg = f"{module}.{name} is no part of a report"
            raise pickle.UnpicklingError(msg)
        return _VALUES[name]


def encode(report: Report) -> bytes:
    """A report as bytes."""
    return pickle.dumps(report, pickle.HIGHEST_PROTOCOL)


def decode(raw: bytes) -> Report:
    """A report from bytes.

    Raises:
        ValueError: The bytes are no report.
    """
    try:
        report = _Reader(io.BytesIO(raw)).load()
    except Exception as error:
        raise ValueError(repr(error)) from error
    if not isinstance(report, Report) or not isinstance(report.verdict, model.Verdict):
        raise ValueError("no report")  # noqa: TRY004 - whoever reads it has one error to handle
    return report
