"""From the arguments of ``evaluate`` to an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from causal_lm_opt._cells import did_you_mean
from causal_lm_opt._evaluate import evaluate_log
from causal_lm_opt._evaluation import LOGGING, Evaluation, Settings
from causal_lm_opt._files import check_file
from causal_lm_opt._parts import prompt_clusters
from causal_lm_opt._readers import column_names
from causal_lm_opt._run.draws import DrawsFile, read_prompted_draws
from causal_lm_opt._run.draws_prompts import cautioned, unprompted, with_unread
from causal_lm_opt._run.models import (
    Models,
    Scored,
    check_folder,
    score_log,
    split_policies,
)
from causal_lm_opt._run.own_rows import lost_rows, models_of_prompts, unsure_rows, without_seen_rows
from causal_lm_opt._run.slips import odd_cells, same_labels
from causal_lm_opt._run.target_texts import (
    DEFAULT_RATIO,
    check_target_texts,
    read_target_texts,
    request_ratio,
)
from causal_lm_opt._run.unnamed_clusters import cluster_caution, cluster_note, unnamed_clusters
from causal_lm_opt.estimators import TargetSample
from causal_lm_opt.estimators._named_models import named_outcome_model, uses_text
from causal_lm_opt.exceptions import DataError
from causal_lm_opt.logged import LoggedData

__all__ = ["Request", "evaluate_file", "parse_policies"]


CROSSED = (
    "The rows of a prompt have correlated outcomes, and standard errors count the clusters of "
    "--group alone, which cross the prompts: they are too small. Leave out --group if prompts are "
    "the larger part (see the note on correlated outcomes)."
)


@dataclass(frozen=True)
class Request:
    """What ``evaluate`` was asked; the names are those of its options.

    ``policies`` are columns or folders of models; ``draws`` is a file, or a number of texts to draw
    from each model.
    """

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
    logging_policy: str | None = None
    policies: Mapping[str, str] | None = None
    draws: str | None = None
    support: bool = False
    target_texts: str | None = None
    ratio: str | None = None
    features: tuple[str, ...] = ()
    independent: tuple[str, ...] = ()
    outcome_model: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    cache: str | None = None
    progress: bool | None = None

    @property
    def unit(self) -> str:
        """Name of the outcome."""
        return self.outcome or f"{self.clicks} per {self.impressions}"

    @property
    def draws_count(self) -> int | None:
        """Texts to draw from each model; ``None`` where the draws are a file, or not asked for."""
        count = self.draws is not None and self.draws.isascii() and self.draws.isdigit()
        return int(self.draws or 0) if count else None

    @property
    def draws_file(self) -> str | None:
        """File of draws (one named like a number needs its folder: ``./200``)."""
        return None if self.draws_count is not None else self.draws

    @property
    def inputs(self) -> list[tuple[str, str]]:
        """Role and path of the files read."""
        given = (("draws", self.draws_file), ("target texts", self.target_texts))
        return [("log", self.log), *((role, path) for role, path in given if path)]


def parse_policies(given: Sequence[str]) -> dict[str, str]:
    """Columns or folders by policy, from ``NAME=COLUMN``, ``COLUMN`` alone or ``NAME=FOLDER``.

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
    """Read the log and the draws, score the log under its models, and value the policies.

    The evaluation's provenance tells which models were used, if any.
    """
    _check(request)
    columns, folders = _split(request)
    _check_draws_count(request, folders)
    log, notes = _clustered_by_prompt(_read(request, columns), request)
    alike = unnamed_clusters(log, request, columns.values())
    notes += (cluster_note(alike),) if alike else ()
    notes += (
        *odd_cells(log),
        *same_labels("--by", log.by),
        *same_labels("--group", log.groups if request.group else None),
    )
    stand_in = {} if request.logging_policy is None else {LOGGING: request.logging_policy}
    log, left_out = without_seen_rows(log, folders | stand_in)
    unsure = lost_rows(folders) | ({} if left_out else unsure_rows(log, folders))
    notes += tuple(left_out)
    models = Models(
        folders, request.logging_policy, request.draws_count, settings.seed, request.cache,
        request.progress,
    )  # fmt: skip
    scored = score_log(log, models) if models else Scored(log, None, ())
    found = _evaluated(_in_order(scored.log, request), scored.draws, request, settings)
    crossed = any(one.column == request.prompt for one in alike)
    doubt = CROSSED if crossed else cluster_caution(alike)
    found = cautioned(found, unsure, ratio=True)
    found = cautioned(found, models_of_prompts(log, folders), ratio=True, cause=True)
    if doubt:
        found = cautioned(found, dict.fromkeys(_policies_of(found), doubt), ratio=True)
    if not scored.facts:
        return replace(found, notes=(*found.notes, *notes))
    return replace(
        found,
        notes=(*scored.notes, *found.notes, *notes),
        tables=(*found.tables, scored.table),
        provenance={"models": list(scored.facts)},
    )


def _policies_of(found: Evaluation) -> set[str]:
    """Names of all policies."""
    return {row.policy for part in found.parts for row in part.rows}


def _evaluated(
    log: LoggedData,
    drawn: Mapping[str, TargetSample] | None,
    request: Request,
    settings: Settings,
) -> Evaluation:
    """The policies' values, with the draws of a file or of the models where there are any."""
    if request.draws is None and request.target_texts is None:
        return evaluate_log(log, settings=settings, unit=request.unit)
    name = request.outcome_model or "tfidf-ridge"
    texts = uses_text(name, request.features)
    _check_features(log, request.features)
    # Named first, so that a bad name or a model without features is told before reading draws.
    model = named_outcome_model(
        name, features=request.features, weighted=log.sample_weight is not None,
        seed=settings.seed,
    )  # fmt: skip
    read = "features" if not texts else "both" if request.features else "text"
    if request.target_texts is not None:
        targets, prompts = read_target_texts(request, texts=texts)
        ratio = request_ratio(
            request, log, targets, texts=texts, cv=settings.cv, seed=settings.seed
        )
        found = evaluate_log(
            log, targets, settings=settings, model=model, read=read, unit=request.unit,
            ratio=ratio, ratio_name=request.ratio or DEFAULT_RATIO,
        )  # fmt: skip
        reasons = unprompted(log, targets, request, prompts)
        reasons = with_unread(reasons, log, targets, request.prompt)
        return cautioned(found, reasons, ratio=True)
    prompts = {}
    if drawn is None:
        drawn, prompts = _draws_of_file(request, texts=texts)
    found = evaluate_log(log, drawn, settings=settings, model=model, read=read, unit=request.unit)
    return cautioned(found, unprompted(log, drawn, request, prompts), ratio=False)


def _draws_of_file(
    request: Request, *, texts: bool
) -> tuple[dict[str, TargetSample], dict[str, NDArray[np.object_]]]:
    """The draws of each policy, and their prompts where these are no clusters."""
    assert request.draws_file is not None
    names = list(request.policies or ())
    # The draws' prompts are the log's clusters, where those are the prompts; where those are the
    # log's texts, draws are texts of their own.
    group = request.group or request.prompt or "group"
    spec = DrawsFile(
        text=request.text if texts else None,
        features=request.features,
        group="group" if group in (request.text, "text") else group,
        by=request.by,
        prompt=None if request.group is None else request.prompt,
        exact=request.support,
        delimiter=request.delimiter,
        decimal=request.decimal or ".",
        only=names[0] if len(names) == 1 else None,
    )
    return read_prompted_draws(request.draws_file, spec)


def _split(request: Request) -> tuple[dict[str, str], dict[str, str]]:
    """The policies that are columns, and those that are models."""
    if not request.policies:
        return {}, {}
    _check_bare_policies(request)
    header = column_names(check_file(request.log), request.delimiter)
    return split_policies(request.policies, header, request.log)


def _in_order(log: LoggedData, request: Request) -> LoggedData:
    """The log with its policies in the order in which they were named."""
    if log.logp_target is None or not request.policies:
        return log
    return replace(log, logp_target=log.logp_target[list(request.policies)])


def _check(request: Request) -> None:
    """Options that need each other."""
    if request.outcome is None and request.clicks is None and request.impressions is None:
        raise ValueError("name the outcome's column: --outcome COL, or --clicks and --impressions")
    check_target_texts(request)
    if request.support and request.draws_file is None:
        raise ValueError("--support says what the draws file lists: give --draws FILE")
    if request.target_texts is not None:
        return
    if request.outcome_model is not None and request.draws is None:
        raise ValueError(
            "--outcome-model is for estimators with an outcome model, which need --draws FILE"
        )
    if request.features and request.draws_file is None:
        raise ValueError(
            "--feature is for estimators with an outcome model, which need --draws FILE (texts "
            "drawn from a model have no features)"
            if request.draws
            else "--feature is for estimators with an outcome model, which need --draws FILE"
        )
    if request.logging_policy is not None:
        if request.logp_logging is not None:
            raise ValueError(
                "--logp-logging and --logging-policy both say who wrote the texts: known "
                "probabilities are better than a model's, so leave out --logging-policy"
            )
        check_folder("--logging-policy", request.logging_policy)


def _check_draws_count(request: Request, folders: Mapping[str, str]) -> None:
    """A number of draws needs models to draw from, and prompts that are the clusters."""
    count = request.draws_count
    if count is None:
        return
    if count < 2:
        raise ValueError(f"--draws {count}: draw at least 2 texts from each model")
    if not folders:
        beside = f" (the file is named ./{count})" if Path(str(count)).exists() else ""
        raise ValueError(
            f"--draws {count} draws texts from policies that are models, and no --policy "
            f"NAME=FOLDER names one{beside}"
        )
    if request.prompt is not None and request.group is not None:
        raise ValueError(
            f"--draws {count} draws texts for each prompt, which are then the clusters: leave out "
            "--group, or give --draws FILE"
        )


def _clustered_by_prompt(log: LoggedData, request: Request) -> tuple[LoggedData, tuple[str, ...]]:
    """The log with its prompts as clusters, unless other clusters are named; and a note of it.

    Texts that answer one prompt share what the prompt does to the outcome, so that a sample of
    prompts is what the standard error must count.
    """
    if log.prompt is None or request.group is not None:
        return log, ()
    labels = prompt_clusters(log.prompt)
    if labels is None:
        return log, ("All rows have the same prompt, so that prompts are no clusters.",)
    distinct = len(set(labels))
    note = f"The rows of each of the {distinct:,} prompts are one cluster (--group names others)."
    empty = sum(not str(prompt).strip() for prompt in log.prompt)
    if empty > 1:
        note += (
            f" {empty:,} rows have an empty prompt and are one of these clusters: give each its "
            "prompt, or leave the rows out, if they only lack it."
        )
    return replace(log, groups=labels), (note,)


def _check_bare_policies(request: Request) -> None:
    """A ``--policy`` without ``=`` must be a column; if it is not, the form was not known."""
    bare = [name for name, column in (request.policies or {}).items() if name == column]
    if not bare:
        return
    header = column_names(check_file(request.log), request.delimiter)
    for name in bare:
        if name not in header:
            raise ValueError(
                f"--policy {name!r}: give NAME=COL, as in --policy new=logp_new, or NAME=FOLDER of "
                f"a model; {request.log} has no column {name!r}{did_you_mean(name, header)}"
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


def _read(request: Request, columns: Mapping[str, str]) -> LoggedData:
    """The log; ``columns`` are those of the policies."""
    _check_text(request)
    return LoggedData.read(
        request.log, delimiter=request.delimiter, decimal=request.decimal or ".", text=request.text,
        outcome=request.outcome, clicks=request.clicks,
        impressions=request.impressions, prompt=request.prompt, group=request.group,
        weight=request.weight, by=request.by, logp_logging=request.logp_logging,
        logp_target=columns or None, covariates=request.features,
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
                "drop the row or give the true value"
            )
