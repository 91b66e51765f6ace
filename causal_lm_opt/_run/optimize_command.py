"""The commands ``optimize`` and ``compare``: their options, and what a Ctrl-C says.

Light to import: nothing here loads NumPy.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from causal_lm_opt._run.options import Decimal, Delimiter, mark
from causal_lm_opt._run.shell import one_line, say

__all__ = ["COMPARE_EXAMPLE", "OPTIMIZE_EXAMPLE", "compare", "optimize"]

OPTIMIZE_EXAMPLE = """\b
Example, on the data of a checkout:
  causal-lm-opt optimize data/text_experiment.csv --outcome outcome \\
    --logp-logging logp_logging --objective targeted --model tiny --out trained

"""
COMPARE_EXAMPLE = """\b
Example:
  causal-lm-opt compare trained-dr trained-targeted --log data/text_experiment.csv \\
    --outcome outcome --out compared

"""
RUN, COLUMNS, METHOD = "The run", "Columns of LOG", "Method"


def _option(name: str, metavar: str, text: str, panel: str, default: str | bool = True) -> Any:
    return typer.Option(
        f"--{name}", metavar=metavar, help=text, show_default=default, rich_help_panel=panel
    )


Text = Annotated[str, _option("text", "COL", "Texts.", COLUMNS)]
Outcome = Annotated[
    str | None, _option("outcome", "COL", "Outcomes (numbers; more is better).", COLUMNS, "needed")
]
Prompt = Annotated[str | None, _option("prompt", "COL", "What texts answer.", COLUMNS, "none")]
Cluster = Annotated[
    str | None,
    _option("group", "COL", "Clusters (reader, prompt, test): rows that depend; no two parts of "
            "the log share one.", COLUMNS, "rows of one prompt, where there are 50 or more, "
            "else of one text"),
]  # fmt: skip
LogpLogging = Annotated[
    str | None,
    _option("logp-logging", "COL", "Natural log-probability under the logging policy.", COLUMNS,
            "the start stands for it"),
]  # fmt: skip
AsTold = Annotated[
    str | None,
    typer.Option(metavar="COL", help="As for optimize.", show_default="what the runs were told",
                 rich_help_panel=COLUMNS),
]  # fmt: skip
SignTold = Annotated[
    str | None,
    typer.Option(metavar="CHAR", help="As for optimize.", show_default="what the runs were told",
                 rich_help_panel=RUN),
]  # fmt: skip
Out = Annotated[Path, _option("out", "DIR", "Folder for the results.", RUN, False)]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace what an earlier run left in DIR; without it, a run "
                 "that was stopped goes on.", rich_help_panel=RUN),
]  # fmt: skip
Again = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace what an earlier comparison left in DIR.",
                 rich_help_panel=RUN),
]  # fmt: skip
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print warnings and errors alone.", rich_help_panel=RUN)
]
Figures = Annotated[
    bool,
    typer.Option("--figures/--no-figures", envvar="CAUSAL_LM_OPT_FIGURES",
                 help="Learning curves in report.html.", rich_help_panel=RUN),
]  # fmt: skip


def optimize(
    context: typer.Context,
    log: Annotated[
        str,
        typer.Argument(metavar="LOG", help="Log: .csv, .tsv, .jsonl (also .gz) or .parquet."),
    ],
    out: Out,
    objective: Annotated[
        str | None,
        _option("objective", "[targeted|dr|ipw|or|likelihood]", "What training raises. targeted: "
                "rounds of fresh texts, rewarded by an outcome model corrected on the log. dr "
                "(DR-CPO), ipw (CPO), or (OO-RLHF): the papers' objectives. likelihood: a "
                "baseline.", METHOD, "targeted"),
    ] = None,
    model: Annotated[
        str | None,
        _option("model", "FOLDER|tiny", "Causal LM that training starts from; tiny: a small one "
                "made from the log's texts.", METHOD, "tiny"),
    ] = None,
    config: Annotated[
        str | None,
        _option("config", "FILE.yaml", "Any setting of CausalLMOptimizer, as in 'learning_rate: "
                "1e-4'; options here override it.", METHOD, "none"),
    ] = None,
    ratio: Annotated[
        str | None,
        _option("ratio", "[auto|sequence|latent|classifier|balance]", "Weights of the values.",
                METHOD, "auto: by the diagnostics"),
    ] = None,
    steps: Annotated[
        int | None, _option("steps", "N", "Most optimiser steps.", METHOD, "160")
    ] = None,
    n_draws: Annotated[
        int | None, _option("draws", "N", "Texts drawn for each value; with prompts at "
                              "least one a row.", METHOD, "1000")
    ] = None,
    no_safe: Annotated[
        bool,
        typer.Option("--no-safe", help="Return the trained model even where it is not surely "
                     "better than the start.", rich_help_panel=METHOD),
    ] = False,
    level: Annotated[
        float | None,
        _option("level", "P", "Confidence level, between 0 and 1.", METHOD, "0.95"),
    ] = None,
    cv: Annotated[
        int | None, _option("cv", "N", "Folds of cross-fitting.", METHOD, "5")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Seed of everything drawn.",
                     show_default="0", rich_help_panel=METHOD),
    ] = None,
    text: Text = "text",
    outcome: Outcome = None,
    prompt: Prompt = None,
    group: Cluster = None,
    logp_logging: LogpLogging = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    overwrite: Overwrite = False,
    figures: Figures = True,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Train a language model to raise the outcome; value it on rows it has not seen.

    Texts are read as 20 topics of their words (and prompts as some of theirs). 'features:' in
    --config names another number, or the folder of a sentence encoder; features of your own go to
    CausalLMOptimizer(features=) in Python.
    """
    from causal_lm_opt._run.optimize import OptimizeRequest, optimize_file
    from causal_lm_opt._run.provenance import command_line

    flags = {
        "objective": objective, "model": model, "ratio": ratio, "steps": steps,
        "n_draws": n_draws, "safe": False if no_safe else None, "level": level, "cv": cv,
        "random_state": seed,
    }  # fmt: skip
    request = OptimizeRequest(
        log=log, out=out, text=text, outcome=outcome, prompt=prompt, group=group,
        logp_logging=logp_logging, delimiter=mark(delimiter), decimal=decimal,
        config=config, flags=flags, overwrite=overwrite, figures=figures,
        progress=False if quiet else None if sys.stderr.isatty() else "lines",
        arguments=dict(context.params), reproduce=command_line(context),
    )  # fmt: skip
    try:
        done = optimize_file(request)
    except KeyboardInterrupt:
        again = f"; run the same command again to go on: what was done is kept in {out}"
        say(f"interrupted{again if out.expanduser().is_dir() else '; nothing was written'}\n",
            error=True)  # fmt: skip
        # Not typer.Exit(130): the shell would add that nothing was written.
        raise SystemExit(130) from None
    for warning in done.warnings:
        say(f"warning: {one_line(warning)}\n", error=True)
    if not quiet:
        say(done.text)


def compare(
    context: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN_A RUN_B ...", help="Folders of finished runs of optimize."),
    ],
    out: Out,
    log: Annotated[
        str | None,
        _option("log", "FILE", "Log the runs were trained on: tells their differences, and fits "
                "the judge of win rates; without it there is the table alone.", RUN, "none"),
    ] = None,
    level: Annotated[
        float, _option("level", "P", "Confidence level of differences and win rates.", METHOD)
    ] = 0.95,
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="N", min=0, max=2**32 - 1, help="Seed of the texts drawn.",
                     rich_help_panel=METHOD),
    ] = 0,
    text: AsTold = None,
    outcome: AsTold = None,
    prompt: AsTold = None,
    group: AsTold = None,
    logp_logging: AsTold = None,
    delimiter: SignTold = None,
    decimal: SignTold = None,
    overwrite: Again = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Put finished runs side by side: values, differences, and whose fresh texts are better."""
    from causal_lm_opt._run.optimize import OptimizeRequest
    from causal_lm_opt._run.optimize_compare import compare_runs
    from causal_lm_opt._run.provenance import command_line

    request = None
    if log is not None:
        request = OptimizeRequest(
            log=log, out=out, text=text or "", outcome=outcome, prompt=prompt, group=group,
            logp_logging=logp_logging, delimiter=mark(delimiter), decimal=decimal,
        )  # fmt: skip
    done = compare_runs(
        runs, request, out, level=level, seed=seed, overwrite=overwrite,
        arguments=dict(context.params), reproduce=command_line(context),
    )  # fmt: skip
    for warning in done.warnings:
        say(f"warning: {one_line(warning)}\n", error=True)
    if not quiet:
        say(done.text)
