"""Errors and warnings; every message names the argument, what was seen and what to do next."""

from __future__ import annotations

__all__ = ["DataError", "EstimationWarning", "NotIdentifiedError", "OverlapError", "OverlapWarning"]


class DataError(ValueError):
    """An input file or table cannot be read as a log; names the file, the row and the column."""


class OtherRunError(DataError):
    """A folder for a run holds another one, or something else."""


class OverlapError(ValueError):
    """The logged texts carry no usable information on the target policy (all weights vanish,
    or a weight overflows).
    """


class NotIdentifiedError(ValueError):
    """The value asked for needs something that was not given (draws of the policy, log-probs)."""


class OverlapWarning(UserWarning):
    """The estimate rests on few rows; read the verdict before using it."""


class EstimationWarning(UserWarning):
    """An estimate was made, but a default had to give way (fewer folds, a constant outcome)."""
