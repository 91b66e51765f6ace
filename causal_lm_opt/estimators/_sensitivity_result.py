"""Claims, breakdown strengths and the result of a sensitivity analysis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from causal_lm_opt.diagnostics.sensitivity._bounds import stretch
from causal_lm_opt.diagnostics.verdict import FEW_CLUSTERS

__all__ = ["WORDS", "Breakdown", "Claim", "SensitivityResult", "Violation"]

FloatArray = npt.NDArray[np.float64]
Violation = Literal["hidden_confounder", "logging_probabilities"]

WORDS = {
    "hidden_confounder": (
        "Violation: a hidden trait of the readers (or of the occasion) drove both which text they "
        "got and the outcome. Lambda bounds how many times likelier, or less likely, it made any "
        "text than the stated log-probs say; averaged over readers these are right at every text."
    ),
    "logging_probabilities": (
        "Violation: the stated logging probabilities are wrong, as a function of the text alone. "
        "Lambda bounds the factor by which any text's probability is off, after one factor common "
        "to all texts."
    ),
}
NOT_COVERED = {
    "hidden_confounder": (
        "Not covered: stated log-probs that are wrong at a text on average over readers (that is "
        "violation='logging_probabilities'), texts the logging policy never writes, readers who "
        "influence each other, wrong log-probs of the target."
    ),
    "logging_probabilities": (
        "Not covered: texts the logging policy never writes, readers who influence each other, "
        "wrong log-probs of the target. A hidden confounder of the same strength is covered unless "
        "texts were given, but violation='hidden_confounder' is narrower for it."
    ),
}


@dataclass(frozen=True)
class Claim:
    """A claim on a policy's value, whose breakdown strength is wanted.

    Parameters
    ----------
    policy : str or int
    above, below : float, optional
        "The value exceeds (lies under) this number."
    better_than : str or int, optional
        "The value exceeds that policy's", one violation for both; ``"logging policy"`` is the mean
        outcome of the log, which it had whatever decided who got which text: the violation moves
        the other value alone.

    Examples
    --------
    >>> Claim("warm", better_than="logging policy").words("warm", "logging policy")
    'warm beats logging policy'
    """

    policy: str | int = 0
    above: float | None = None
    below: float | None = None
    better_than: str | int | None = None

    def __post_init__(self) -> None:
        given = [self.above, self.below, self.better_than]
        if sum(x is not None for x in given) != 1:
            raise ValueError("A Claim states exactly one of above, below and better_than.")
        for name, number in (("above", self.above), ("below", self.below)):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"Claim.{name} must be a finite number, got {number!r}.")

    def words(self, policy: str, reference: str | None) -> str:
        """The claim in words."""
        if self.better_than is not None:
            return f"{policy} beats {reference}"
        if self.above is not None:
            return f"the value of {policy} exceeds {self.above:g}"
        return f"the value of {policy} lies under {self.below:g}"


@dataclass(frozen=True)
class Breakdown:
    """Strength at which a claim stops holding.

    Attributes
    ----------
    claim : str
    strength : float
        Smallest Lambda at which the bounds no longer imply it: 1, it fails without a violation;
        ``inf``, never (up to 1,000).
    strength_ci : float
        The same for the interval of the bounds, which allows for sampling error too.
    quantity : str
        Quantity of the result that the claim is about.
    threshold : float
        Number that it is claimed to exceed, or to lie under; 0 of a difference.
    difference : bool
        Whether the quantity is the difference of two policies' values.
    """

    claim: str
    strength: float
    strength_ci: float
    quantity: str = ""
    threshold: float = 0.0
    difference: bool = False

    @property
    def sentence(self) -> str:
        """The breakdown in words."""
        if self.strength <= 1.0:
            return f"'{self.claim}' does not hold even without a violation."
        upto = "at every Lambda tried" if math.isinf(self.strength) else (
            f"up to Lambda = {self.strength:.3g}"
        )  # fmt: skip
        if self.strength_ci <= 1.0:
            noise = "sampling error alone could undo it"
        elif math.isinf(self.strength_ci):
            noise = "at every Lambda tried allowing for sampling error"
        else:
            noise = f"up to {self.strength_ci:.3g} allowing for sampling error"
        return f"'{self.claim}' holds {upto} ({noise})."


@dataclass(frozen=True, eq=False)
class SensitivityResult:
    """Bounds of values (and of claimed differences) on a grid of strengths.

    Attributes
    ----------
    violation : {"hidden_confounder", "logging_probabilities"}
    estimator : str
    quantities : tuple of str
        Policies, then differences ``"f - h"`` that claims are about.
    lambdas : array, shape (L,)
    values : array, shape (Q,)
        The estimates, which the bounds at Lambda = 1 equal.
    lower, upper : arrays, shape (Q, L)
    ci_lower, ci_upper : arrays, shape (Q, L)
        Percentile-bootstrap interval of the bounds, wider where clusters are few (see
        :meth:`Bounds.interval <causal_lm_opt.diagnostics.sensitivity.Bounds.interval>`).
    level : float
    n_bootstrap : int
    breakdowns : tuple of Breakdown
    dof : float
        One less than the number of equal clusters that the clusters are worth; ``inf`` for rows.
    """

    violation: Violation
    estimator: str
    quantities: tuple[str, ...]
    lambdas: FloatArray
    values: FloatArray
    lower: FloatArray
    upper: FloatArray
    ci_lower: FloatArray
    ci_upper: FloatArray
    level: float
    n_bootstrap: int
    breakdowns: tuple[Breakdown, ...] = ()
    dof: float = math.inf

    def to_frame(self) -> pd.DataFrame:
        """One row per quantity and strength."""
        shape = self.lower.shape
        return pd.DataFrame(
            {
                "quantity": np.repeat(self.quantities, shape[1]),
                "value": np.repeat(self.values, shape[1]),
                "lambda": np.tile(self.lambdas, shape[0]),
                "lower": self.lower.ravel(),
                "upper": self.upper.ravel(),
                "ci_lower": self.ci_lower.ravel(),
                "ci_upper": self.ci_upper.ravel(),
            }
        )

    def plot(
        self,
        quantity: str | int | None = None,
        *,
        unit: str | None = None,
        theme: str = "light",
        ax: Any = None,
    ) -> Any:
        """Bounds of one quantity against the strength, with the first claim on it.

        Parameters
        ----------
        quantity : str or int, optional
            Default: what the first claim is about, or the first policy.
        unit, theme, ax
            As in :func:`causal_lm_opt.plots.sensitivity_plot`.

        Returns
        -------
        Axes

        Raises
        ------
        ValueError
            For a quantity that is not in ``quantities``.
        """
        from causal_lm_opt.plots import sensitivity_plot  # loads matplotlib

        name = self._named(quantity)
        table = self.to_frame()
        found = next((b for b in self.breakdowns if b.quantity == name), None)
        return sensitivity_plot(
            table[table["quantity"] == name], claim=None if found is None else found.threshold,
            breakdown=None if found is None else found.strength, level=self.level, unit=unit,
            difference=found is not None and found.difference, theme=theme, ax=ax,
        )  # fmt: skip

    def _named(self, quantity: str | int | None) -> str:
        """Name of a quantity."""
        if quantity is None:
            about = (b.quantity for b in self.breakdowns if b.quantity)
            return next(about, self.quantities[0])
        if isinstance(quantity, str) and quantity in self.quantities:
            return quantity
        if isinstance(quantity, int) and 0 <= quantity < len(self.quantities):
            return self.quantities[quantity]
        raise ValueError(f"quantity {quantity!r} is not known; there are {list(self.quantities)}.")

    @property
    def sentences(self) -> tuple[str, ...]:
        """What the violation is, where each claim breaks down, and what is not covered."""
        claims = (b.sentence for b in self.breakdowns)
        few = []
        if self.dof + 1 < FEW_CLUSTERS:
            few = [
                f"The intervals rest on clusters worth {self.dof + 1:.0f} equal ones and are "
                f"stretched for that by {stretch(self.dof, self.level):.2f}: from fewer than "
                f"{FEW_CLUSTERS} they are "
                "rough all the same."
            ]
        return (WORDS[self.violation], *claims, *few, NOT_COVERED[self.violation])

    def summary(self) -> str:
        """The table and its reading, as text."""
        table = self.to_frame().to_string(index=False, float_format=lambda x: f"{x:.4g}")
        head = (
            f"Sensitivity of {self.estimator} ({self.level:.0%} intervals, {self.n_bootstrap} "
            "resamples)"
        )
        return "\n".join([head, table, *self.sentences])

    def __str__(self) -> str:
        return self.summary()
