"""The Hong Kong experiment: policies over its pieces, valued on the arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from causal_lm_opt._evaluate import evaluate_part
from causal_lm_opt._evaluation import Evaluation, Settings, Study, Table
from causal_lm_opt.datasets import HongKong, PiecePolicy, hong_kong_policies, load_hong_kong
from causal_lm_opt.datasets._hong_kong_file import locate
from causal_lm_opt.estimators import TargetSample
from causal_lm_opt.estimators._named_models import named_outcome_model

__all__ = ["hong_kong", "hong_kong_files"]


def hong_kong_files(path: str | Path) -> list[tuple[str, Path]]:
    """Role and path of the input files."""
    rows, pieces = locate(Path(path), None)
    return [("log", rows), ("arm texts", pieces)]


def hong_kong(path: str | Path, settings: Settings) -> Evaluation:
    """Value four policies over pieces on a file of the Hong Kong experiment's layout."""
    data = load_hong_kong(path)
    policies = hong_kong_policies(data.design)
    part = evaluate_part(
        hong_kong_study(data, policies), settings, key="hong_kong", title="The experiment",
        text="Each reader saw two or three pieces of text. Log-probabilities follow from the "
        "stated design; the outcome model is linear in the arms (the number of pieces is their "
        "sum), and each policy's texts are enumerated exactly in the space of the arms. Rows "
        "with the same text are one cluster.",
    )  # fmt: skip
    return Evaluation(
        title="Hong Kong text experiment: values of piece policies",
        question=(
            "How far would readers have supported the protesters (resp, 0 to 100) on average, had "
            "each of these policies written the texts instead of the experiment's design?"
        ),
        parts=(part,),
        level=settings.level,
        notes=_design_notes(data),
        tables=(_arm_shares(data.design, policies), _design_table(data)),
    )


def hong_kong_study(data: HongKong, policies: Mapping[str, PiecePolicy]) -> Study:
    """Arms as features, exact support of each policy, rows with equal texts as clusters."""
    arms = list(data.design.arms)
    targets = {}
    for name, policy in policies.items():
        support, prob = policy.support()
        targets[name] = TargetSample(
            support[arms].astype(np.float64), logp_target=np.log(prob),
            logp_logging=data.design.log_prob_arms(support), exact=True,
        )  # fmt: skip
    return Study(
        X=data.arms[arms].astype(np.float64),
        outcome=data.outcome,
        fit_params={
            "logp_target": pd.DataFrame({n: p.log_prob(data.texts) for n, p in policies.items()}),
            "logp_logging": data.logp_logging,
            "groups": data.groups,
        },
        targets=targets,
        model=named_outcome_model("linear", features=arms),
        unit="resp (0 to 100)",
        texts=data.texts,
    )


def _arm_shares(design: PiecePolicy, policies: Mapping[str, PiecePolicy]) -> Table:
    """How often each policy's texts hold each arm."""
    rows = []
    for name, policy in {"logging policy": design, **policies}.items():
        support, prob = policy.support()
        shares = prob @ support.to_numpy(dtype=np.float64)
        rows.append((name, *(round(float(s), 4) for s in shares)))
    return Table(
        title="What the policies write",
        text="Share of texts that hold each arm, and the mean number of pieces.",
        columns=("policy", *design.arms, "mean n_pieces"),
        rows=tuple(rows),
    )


def _design_notes(data: HongKong) -> tuple[str, ...]:
    """Steps of the design that the counts contradict; the verdicts take the design as given."""
    checks = data.check_design()
    bad = {str(s): float(r["p_holm"]) for s, r in checks.iterrows() if r["p_holm"] < 0.05}

    def named(steps: list[str]) -> str:
        return "; ".join(f"{step} (p = {bad[step]:.2g} after Holm)" for step in steps)

    # Every policy here re-weights sets of arms: order and wording have the same probabilities
    # under target and design, and cancel in the ratio.
    cancel = [s for s in bad if s.startswith(("order", "wording"))]
    repeats = [s for s in bad if s.startswith("repeated")]
    threats = [s for s in bad if s not in cancel and s not in repeats]
    notes = []
    if threats:
        notes.append(
            f"Do not take the verdicts at face value: the counts contradict the stated design in "
            f"{named(threats)}, which the weights rest on."
        )
    if cancel:
        notes.append(
            f"The counts depart from the stated design in {named(cancel)}. The policies valued "
            f"here {_as_logged(cancel)} as the log did, whatever that was, so that the step "
            "cancels in the weights; of a policy that takes this step otherwise these values say "
            "nothing."
        )
    if repeats:
        notes.append(
            f"More texts repeat than independent draws would: {named(repeats)}; rows with equal "
            "texts are one cluster, so that the standard errors allow for it."
        )
    return tuple(notes)


def _as_logged(steps: Sequence[str]) -> str:
    """What the policies do as the log did, of the steps of the design that cancel."""
    found = [
        verb
        for kind, verb in (("order", "put the pieces in order"), ("wording", "word the pieces"))
        if any(step.startswith(kind) for step in steps)
    ]
    return " and ".join(found)


def _design_table(data: HongKong) -> Table:
    """The test of each step of the stated design, over rows and over distinct texts."""
    rows = []
    for label, distinct in (("all rows", False), ("distinct texts", True)):
        for step, r in data.check_design(distinct=distinct).iterrows():
            rows.append(
                (str(step), label, str(r["test"]), int(r["n"]), float(r["statistic"]),
                 int(r["df"]), float(r["p_value"]), float(r["p_holm"]),
                 float(r["min_expected"]))
            )  # fmt: skip
    return Table(
        title="Does the stated design fit the counts?",
        text="The logging probabilities are read off the design, so a step that the counts "
        "contradict is a threat to every weighted estimate. p (Holm) allows for the number of "
        "steps; where the smallest expected count is below 5 do not trust a chi-square.",
        columns=("step", "counted", "test", "n", "statistic", "df", "p", "p (Holm)",
                 "smallest expected"),
        rows=tuple(rows),
    )  # fmt: skip
