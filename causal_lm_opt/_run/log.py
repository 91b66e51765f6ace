"""From the arguments of ``evaluate`` to an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from causal_lm_opt._cells import did_you_mean
from causal_lm_opt._evaluate import evaluate_log
from causal_lm_opt._evaluation import Evaluation, Settings
from causal_lm_opt._files import check_file, format_of
from causal_lm_opt._parts import object_array
from causal_lm_opt._readers import column_names
from causal_lm_opt._run.draws import DrawsFile, read_draws
from causal_lm_opt.estimators._named_models import named_outcome_model, uses_text
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.logged import LoggedData

__all__ = ["Request", "evaluate_file", "parse_policies"]


@dataclass(frozen=True)
class Request:
    """What ``evaluate`` was asked; the names are those of its options."""

    log: str
    text: str = "text"
    outcome: str | None = None
    clicks: str | None = None
    impressions: str | None = None
    prompt: str | None = None
    group: str | None = None
    weight: str | None = None
    by: str | None = None
    logp_logging: str | None = None
    policies: Mapping[str, str] | None = None
    draws: str | None = None
    support: bool = False
    features: tuple[str, ...] = ()
    outcome_model: str | None = None
    delimiter: str | None = None

    @property
    def unit(self) -> str:
        """Name of the outcome."""
        return self.outcome or f"{self.clicks} per {self.impressions}"


def parse_policies(given: Sequence[str]) -> dict[str, str]:
    """Columns of log-probabilities by policy, from ``NAME=COLUMN`` (or ``COLUMN`` alone).

    >>> parse_policies(["new=lp_new", "lp_old"])
    {'new': 'lp_new', 'lp_old': 'lp_old'}
    """
    found: dict[str, str] = {}
    for item in given:
        name, equals, column = item.partition("=")
        column = column if equals else name
        if not name.strip() or not column:
            raise ValueError(f"--policy {item!r}: give NAME=COLUMN, as in --policy new=logp_new")
        if name in found:
            raise ValueError(f"--policy names {name!r} twice")
        found[name] = column
    return found


def evaluate_file(request: Request, settings: Settings) -> Evaluation:
    """Read the log and the draws, and value the policies."""
    _check(request)
    log, notes = _clustered_by_prompt(_read(request), request)
    if request.draws is None:
        found = evaluate_log(log, settings=settings, unit=request.unit)
        return replace(found, notes=(*found.notes, *notes))
    name = request.outcome_model or "tfidf-ridge"
    texts = uses_text(name, request.features)
    _check_features(log, request.features)
    # Named first, so that a bad name or a model without features is told before reading draws.
    model = named_outcome_model(
        name, features=request.features, weighted=log.sample_weight is not None,
        seed=settings.seed,
    )  # fmt: skip
    spec = DrawsFile(
        text=request.text if texts else None,
        features=request.features,
        # The draws' prompts are the log's clusters, where those are the prompts.
        group=request.group or request.prompt or "group",
        by=request.by,
        exact=request.support,
        delimiter=_draws_delimiter(request),
    )
    draws = read_draws(request.draws, spec)
    read = "features" if not texts else "both" if request.features else "text"
    found = evaluate_log(log, draws, settings=settings, model=model, read=read, unit=request.unit)
    return replace(found, notes=(*found.notes, *notes))


def _check(request: Request) -> None:
    """Options that need each other."""
    if request.outcome is None and request.clicks is None and request.impressions is None:
        raise ValueError("name the outcome's column: --outcome COL, or --clicks and --impressions")
    if request.support and request.draws is None:
        raise ValueError("--support says what the draws file lists: give --draws FILE")
    if request.delimiter is not None and len(request.delimiter) != 1:
        raise ValueError(f"--delimiter must be one character, or tab; got {request.delimiter!r}")
    for option, given in (
        ("--outcome-model", request.outcome_model is not None),
        ("--feature", bool(request.features)),
    ):
        if given and request.draws is None:
            raise ValueError(
                f"{option} is for estimators with an outcome model, which need --draws FILE"
            )


def _draws_delimiter(request: Request) -> str | None:
    """The log's delimiter, if the draws are delimited text too."""
    assert request.draws is not None
    return request.delimiter if format_of(request.draws) == "csv" else None


def _clustered_by_prompt(log: LoggedData, request: Request) -> tuple[LoggedData, tuple[str, ...]]:
    """The log with its prompts as clusters, unless other clusters are named; and a note of it.

    Texts that answer one prompt share what the prompt does to the outcome, so that a sample of
    prompts is what the standard error must count.
    """
    if log.prompt is None or request.group is not None:
        return log, ()
    labels = [prompt or "(no prompt)" for prompt in log.prompt]
    distinct = len(set(labels))
    if distinct < 2:
        return log, ("All rows have the same prompt, so that prompts are no clusters.",)
    note = f"The rows of each of the {distinct:,} prompts are one cluster (--group names others)."
    return replace(log, groups=object_array(labels)), (note,)


def _check_bare_policies(request: Request) -> None:
    """A ``--policy`` without ``=`` must be a column; if it is not, the form was not known."""
    bare = [name for name, column in (request.policies or {}).items() if name == column]
    if not bare:
        return
    header = column_names(check_file(request.log), request.delimiter)
    for name in bare:
        if name not in header:
            raise ValueError(
                f"--policy {name!r}: give NAME=COL, as in --policy new=logp_new; {request.log} has "
                f"no column {name!r}{did_you_mean(name, header)}"
            )


def _check_text(request: Request) -> None:
    """Where the column of texts has not been named, the default must be there."""
    if request.text != Request.text:
        return
    header = column_names(check_file(request.log), request.delimiter)
    if request.text not in header and len(header) > 1:  # one column: a delimiter, told elsewhere
        raise DataError(
            f"{request.log}: no column {request.text!r}: name the column of texts with --text COL; "
            f"columns: {', '.join(map(repr, header))}{did_you_mean(request.text, header)}"
        )


def _read(request: Request) -> LoggedData:
    _check_text(request)
    _check_bare_policies(request)
    return LoggedData.read(
        request.log, delimiter=request.delimiter, text=request.text,
        outcome=request.outcome, clicks=request.clicks,
        impressions=request.impressions, prompt=request.prompt, group=request.group,
        weight=request.weight, by=request.by, logp_logging=request.logp_logging,
        logp_target=request.policies or None, covariates=request.features,
    )  # fmt: skip


def _check_features(log: LoggedData, features: Sequence[str]) -> None:
    """Features must be numbers in every row."""
    for name in features:
        assert log.covariates is not None
        values = log.covariates[name]
        if values.dtype.kind != "f":
            raise DataError(f"{log.source}, column {name!r}: --feature needs a column of numbers")
        missing = np.flatnonzero(~np.isfinite(values.to_numpy()))
        if missing.size:
            raise DataError(
                f"{log.source}, row {missing[0] + 1}, column {name!r}: is missing or not finite; "
                "drop the row or fill it"
            )
