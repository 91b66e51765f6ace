"""What the latent of a learnt reward holds: ``python -m benchmarks.preference_probes``.

Fits of the latent-positivity study (same pairs, same networks), and on their tests
:func:`causal_lm_opt.diagnostics.latent_probes`: cross-validated R2 of each rating from the latent,
accuracy once a rating is taken out of the latent, and the share of the reward's margins that goes
with it. Where ratings are uniform R2 cannot pass the reliability with which the embedding shows
them (.3 by default).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.estimators import RESULTS, show, write
from benchmarks.preferences_real import figures
from benchmarks.validate import begin
from causal_lm_opt.diagnostics import accuracy_gap, latent_probes
from causal_lm_opt.simulation.preference_study import (
    BASE,
    TESTS,
    Fit,
    PreferenceStudy,
    draw_pairs,
    preference_study,
)

RHOS = (0.0, 0.9)
NAMES = ("z1 (weight .25)", "z2 (weight .75)")


def probe(study: PreferenceStudy, fit: Fit) -> list[dict[str, Any]]:
    """Rows of both tests' probes, and the gap of this one fit."""
    from causal_lm_opt.rewards.studies import make_model

    train, valid = draw_pairs(study, fit, "train"), draw_pairs(study, fit, "valid")
    model = make_model(fit, study.model).fit(
        train.chosen, train.rejected, validation=(valid.chosen, valid.rejected)
    )
    rows, margins, labels = [], {}, {}
    for test in TESTS[study.name]:
        pairs = draw_pairs(study, fit, test)
        margin = model.predict(pairs.chosen) - model.predict(pairs.rejected)
        margins[test], labels[test] = margin, pairs.label
        table = latent_probes(
            model.transform(pairs.chosen), model.transform(pairs.rejected), pairs.z_chosen,
            pairs.z_rejected, margin=margin, label=pairs.label, names=NAMES,
        )  # fmt: skip
        head = {"rho": fit.rho, "seed": fit.seed, "test": test}
        rows += [head | row for row in table.to_dict("records")]
    gap = accuracy_gap(
        margins["id"], margins["ood"], label_id=labels["id"], label_ood=labels["ood"]
    )
    print(f"rho {fit.rho:g}, seed {fit.seed}: {gap}", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--json", type=Path, default=RESULTS / "preferences" / "probes.json")
    options = parser.parse_args()
    told = begin(0)
    study = preference_study("latent-positivity", quick=options.quick)
    rows: list[dict[str, Any]] = []
    with threadpool_limits(1):
        for seed in range(options.seeds):
            for rho in RHOS:
                rows += probe(study, Fit("high", rho, seed, BASE))
    cells = []
    for (rho, test, factor), part in pd.DataFrame(rows).groupby(
        ["rho", "test", "factor"], sort=False
    ):
        cell: dict[str, Any] = {"rho": rho, "test": test, "factor": factor}
        for name in ("r2", "accuracy", "margin_share"):
            if part[name].notna().all():
                cell |= figures(name, part[name].to_numpy(dtype=float))
        cells.append(cell)
    show("Probes", cells, {"rho": "g", "test": "", "factor": "", "r2": ".3f", "accuracy": ".3f",
                           "margin_share": ".2f"})  # fmt: skip
    write(options.json, told | {"seeds": options.seeds, "cells": cells, "rows": rows})


if __name__ == "__main__":
    main()
