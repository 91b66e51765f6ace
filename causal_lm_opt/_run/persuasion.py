"""The persuasion experiment: what each author's messages are worth, directly and from others'."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from causal_lm_opt._evaluate import evaluate_part
from causal_lm_opt._evaluation import Evaluation, Part, Settings, Study, Table
from causal_lm_opt._run.transport import (
    FEWEST_AUTHORS,
    LENGTH,
    Transport,
    author_transport,
    by_value,
    message_features,
    reachable_rank,
    said,
    score,
)
from causal_lm_opt.datasets import DirectMean, Persuasion, load_persuasion
from causal_lm_opt.datasets._design_checks import holm
from causal_lm_opt.datasets._persuasion_files import locate
from causal_lm_opt.estimators import TargetSample
from causal_lm_opt.estimators._named_models import named_outcome_model
from causal_lm_opt.exceptions import NotIdentifiedError

__all__ = ["centred_outcome", "persuasion", "persuasion_files", "persuasion_study"]

UNIT = "agreement (0 to 100)"
LEFT_OUT = (
    ("ht", "probabilities are counts, so weights average 1 exactly: the value is Hajek's."),
    (
        "or",
        "every text has readers of its own, so a model could only add its bias; the off-policy "
        "table shows what it can do without them.",
    ),
    (
        "dr",
        "every text was read and probabilities are counts, so the predictions of any outcome "
        "model cancel: the value is Hajek's to the last digit, and the model's noise would only "
        "enter the standard error.",
    ),
)
ESTIMAND = (
    "Values are those of each author's messages as they stand: what readers would have said on "
    "average, had every reader of an issue been given one of the author's messages on it, each "
    "alike. Readers are the sample. Of messages still to be written, or other issues, these "
    "intervals say too little: see the second standard error among the direct means."
)


def persuasion_files(messages: str | Path, outcomes: str | Path | None) -> list[tuple[str, Path]]:
    """Role and path of the input files."""
    found = locate(Path(messages), None if outcomes is None else Path(outcomes))
    return list(zip(("messages", "outcomes"), found, strict=True))


def persuasion(messages: str | Path, outcomes: str | Path | None, settings: Settings) -> Evaluation:
    """Value every author's messages on files of the persuasion experiment's layout."""
    data = load_persuasion(messages, outcomes)
    if not data.complete_authors:
        raise NotIdentifiedError("no author has a message on every issue; leave issues out.")
    part = evaluate_part(
        persuasion_study(data), replace(settings, estimators=("hajek",)), key="texts",
        title="These texts",
    )  # fmt: skip
    transport = author_transport(data) if len(data.complete_authors) >= FEWEST_AUTHORS else None
    return Evaluation(
        title="Persuasion experiment: values of language models and people as authors",
        question=(
            "How far would readers have agreed with the position argued for (0 to 100) on "
            "average, had each of these authors written all messages instead of the experiment's "
            "mixture of them?"
        ),
        parts=(_ordered(part),),
        level=settings.level,
        notes=_notes(data, transport, settings.level),
        tables=(_direct_table(data), *_transport_tables(transport, settings),
                _design_table(data)),
    )  # fmt: skip


# ------------------------------------------------------------------------------ the study
def centred_outcome(data: Persuasion) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Outcomes less the issue's mean, plus the weighted mean over issues, shape (n,).

    Every policy has the same issues in the same shares, so this changes no value and no
    difference; without it the issues' different popularity would count as sampling error.
    """
    issue, y = data.readers["issue"], data.readers["outcome"]
    mean = y.groupby(issue).mean()
    overall = float((data.issue_weights() * mean).sum())
    return np.asarray(y - issue.map(mean) + overall, dtype=np.float64)


def persuasion_study(data: Persuasion) -> Study:
    """Texts with their length, every author's messages as exact support; no clusters."""
    messages = data.messages
    share = data.issue_weights()
    of_reader = np.log(data.readers["issue"].map(share).to_numpy(dtype=np.float64))
    of_message = np.log(messages["issue"].map(share).to_numpy(dtype=np.float64))
    features = message_features(data)
    design = np.log(data.propensities().to_numpy()) + of_message
    targets, logp = {}, {}
    for author in data.complete_authors:
        p = data.policy(author).to_numpy()
        at = np.flatnonzero(p)
        targets[author] = TargetSample(
            features.iloc[at].reset_index(drop=True), logp_target=np.log(p[at]) + of_message[at],
            logp_logging=design[at], exact=True,
        )  # fmt: skip
        logp[author] = data.log_prob(author) + of_reader
    where = pd.Index(messages["message_id"]).get_indexer(pd.Index(data.groups))
    return Study(
        X=features.iloc[where].reset_index(drop=True),
        outcome=centred_outcome(data),
        fit_params={
            "logp_target": pd.DataFrame(logp),
            "logp_logging": data.log_prob() + of_reader,
        },
        targets=targets,
        model=named_outcome_model("tfidf-ridge", features=[LENGTH]),
        unit=UNIT,
        texts=data.readers["text"].tolist(),
    )


def _ordered(part: Part) -> Part:
    """The part with its policies by value, highest first, below the logging policy."""
    rows = sorted(part.rows, key=lambda r: (r.estimator != "mean", -r.value))
    contrasts = sorted(part.contrasts, key=lambda c: -c.value)
    return replace(part, rows=tuple(rows), contrasts=tuple(contrasts), left_out=LEFT_OUT)


# ------------------------------------------------------------------------------ tables
def _direct_table(data: Persuasion) -> Table:
    """Every author's own mean with both standard errors, against control and people."""
    means = {author: data.direct(author) for author in data.complete_authors}
    order = sorted(means, key=lambda author: -means[author].value)
    between = data.message_variance()
    spread = [math.sqrt(between * means[a].message_share) for a in order]
    columns: dict[str, list[object]] = {
        "author": [*order],
        "messages": [means[a].n_messages for a in order],
        "readers": [means[a].n_readers for a in order],
        "mean": [round(means[a].value, 2) for a in order],
        "se (these texts)": [round(means[a].se_texts, 2) for a in order],
        "se (texts to come)": [
            round(math.hypot(means[a].se_texts, s), 2) for a, s in zip(order, spread, strict=True)
        ],
        "se by message": [_or_na(means[a].se_model, 2) for a in order],
        "its df": [_or_na(means[a].df_model, 1) for a in order],
    }
    references = {a: means[a] for a in data.human_authors if a in means}
    control = _control(data)
    if control is not None:
        references = {"control": control} | references
    for name, reference in references.items():
        columns |= _against(name, reference, means, order)
    text = (
        "Means over issues (weighted by their readers) of the author's messages' mean outcomes. "
        "The first standard error is the readers' (these texts). The second adds what messages "
        "of one author on one issue differ by (texts the author would write on these issues): "
        f"a standard deviation of {math.sqrt(between):.2f} a message, pooled over authors as if "
        "alike. The third clusters readers by message within issue, from the author's own few "
        "messages: noisy, with few degrees of freedom, and not to be had from one message an "
        "issue. Differences are about these texts, with p-values Holm-adjusted over authors at "
        "each reference."
    )
    return Table("Direct means", text, tuple(columns), tuple(zip(*columns.values(), strict=True)))


def _against(
    name: str, reference: DirectMean, means: dict[str, DirectMean], order: Sequence[str]
) -> dict[str, list[object]]:
    """Columns: difference from a reference, its standard error, Holm-adjusted p."""
    gaps = np.array([means[a].value - reference.value for a in order])
    se = np.array([math.hypot(means[a].se_texts, reference.se_texts) for a in order])
    same = np.array([a == name for a in order])
    p = holm(np.where(same, np.nan, 2 * stats.norm.sf(np.abs(gaps) / se)))
    return {
        f"minus {name}": ["n/a" if s else _rounded(g)
                          for g, s in zip(gaps, same, strict=True)],
        f"se (minus {name})": ["n/a" if s else round(float(e), 2)
                               for e, s in zip(se, same, strict=True)],
        f"p (minus {name})": [float(v) if math.isfinite(v) else "n/a" for v in p],
    }  # fmt: skip


def _control(data: Persuasion) -> DirectMean | None:
    """Control mean, where there are control readers on every issue."""
    on = data.control["issue"].value_counts()
    return data.direct_control() if all(on.get(i, 0) >= 2 for i in data.issues) else None


def _transport_tables(found: Transport | None, settings: Settings) -> tuple[Table, ...]:
    """Off-policy predictions of every author beside the truth, and how well they do."""
    if found is None:
        return ()
    size = len(found.authors)
    critical = float(stats.t.ppf((1 + settings.level) / 2, size - 2))
    name = "text model"
    rows = []
    for i in by_value(found):
        gap = float(found.predicted[name][i] - found.direct[i])
        noise, se = float(found.se_direct[i]), float(found.se[name][i])
        rows.append(
            (found.authors[i], round(float(found.predicted[name][i]), 2),
             round(float(found.direct[i]), 2), _rounded(gap), round(se, 2),
             said(gap, noise, se, critical))
        )  # fmt: skip
    each = Table(
        title="Off-policy test: each author from the other authors' readers",
        text="Predicted: from the other authors' messages and readers, and this author's texts "
        "alone (authors' averages of how close their texts keep to the issue, of marks of quality "
        "and of words, in the mixture that does best for the other authors left out in turn). "
        "Direct: its own readers. "
        "The standard error of the difference holds the readers' noise in the direct mean and "
        "the model's usual error for other authors, larger the farther this author's texts lie "
        "from theirs; beyond that it is right if authors are alike in how well they can be "
        "predicted. Where no other author writes so badly, or like people, none can be learnt "
        "from.",
        columns=("author", "predicted", "direct", "difference", "se", "verdict"),
        rows=tuple(rows),
    )
    scores = []
    for predictor in found.predicted:
        s = score(found, predictor, settings.level)
        scores.append(
            (predictor, round(s.nc_mse, 2), _or_na(s.rank, 2), f"{s.covered} of {size}",
             round(s.interval_score, 1))
        )  # fmt: skip
    best = reachable_rank(found, settings.seed)
    overall = Table(
        title="How well texts predict an author nobody read",
        text="Squared error less the readers' noise in the direct means; rank correlation with "
        f"them (noise alone would keep a perfect predictor at about {best:.2f}); how many "
        "intervals hold the direct mean; mean interval score (small is good). The grand mean "
        "gives every author the mean of the others.",
        columns=("predictor", "noise-corrected MSE", "rank correlation", "covered",
                 "interval score"),
        rows=tuple(scores),
    )  # fmt: skip
    return each, overall


def _design_table(data: Persuasion) -> Table:
    """The test of each step of the allocation."""
    rows = [
        (str(step), int(r["n"]), float(r["statistic"]), int(r["df"]), float(r["p_value"]),
         float(r["p_holm"]), float(r["min_expected"]))
        for step, r in data.check_design().iterrows()
    ]  # fmt: skip
    return Table(
        title="Was the allocation random?",
        text="Probabilities are read off the counts; these tests say whether the counts look like "
        "a lottery (issues alike, authors in the same shares on every issue, an author's messages "
        "alike) and whether readers of different authors are alike. p (Holm) allows for the "
        "number of tests; where the smallest expected count is below 5 do not trust a chi-square. "
        "Readers who left before they answered are not in the file, and no test here sees them.",
        columns=("step", "n", "statistic", "df", "p", "p (Holm)", "smallest expected"),
        rows=tuple(rows),
    )


def _rounded(value: float) -> float:
    """Two decimals, no minus zero."""
    return round(float(value), 2) + 0.0


def _or_na(value: float, decimals: int) -> float | str:
    return round(value, decimals) if math.isfinite(value) else "n/a"


def _notes(data: Persuasion, transport: Transport | None, level: float) -> tuple[str, ...]:
    """What a reader must know before the figures, and what the off-policy test found."""
    notes = [
        ESTIMAND,
        "Outcomes are centred by issue before they are averaged, which changes no value and no "
        "difference, as every policy has the same issues in the same shares. Weights average 1 "
        "and nothing is unseen by construction here: those checks hold no news.",
    ]
    if transport is not None:
        text, grand = (score(transport, name, level) for name in ("text model", "grand mean"))
        notes.append(
            "Off-policy test, each author valued from the other authors' readers and its texts: "
            f"noise-corrected squared error {text.nc_mse:.2f} against {grand.nc_mse:.2f} for the "
            f"others' mean, rank correlation with the direct means {text.rank:.2f}, and "
            f"{text.covered} of {len(transport.authors)} intervals hold the direct mean."
        )
    checks = data.check_design()
    bad = [f"{s} (p = {r['p_holm']:.2g} after Holm)" for s, r in checks.iterrows()
           if r["p_holm"] < 0.05]  # fmt: skip
    if bad:
        notes.append(f"The counts do not look like the stated lottery: {'; '.join(bad)}.")
    partial = [a for a in data.authors if a not in data.complete_authors]
    if partial:
        notes.append(f"Left out, having no message on some issue: {', '.join(partial)}.")
    if data.unread:
        notes.append(
            f"{len(data.unread)} messages that nobody read are left out; values are those of the "
            "authors' messages that were read."
        )
    return tuple(notes)
