"""The command line ``causal-lm-opt``: reads arguments, calls the package, writes a folder.

Exit codes: 0 done; 2 bad usage or bad input; 3 the output exists or cannot be written;
130 interrupted; 1 an unexpected failure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causal_lm_opt import __version__
from causal_lm_opt._run.optimize_command import (
    COMPARE_EXAMPLE,
    OPTIMIZE_EXAMPLE,
    compare,
    optimize,
)
from causal_lm_opt._run.options import (
    COLUMNS,
    DEFAULT_OUT,
    FILES,
    METHOD,
    POLICIES,
    RUN,
    Cv,
    Decimal,
    Delimiter,
    Figures,
    Level,
    Out,
    Overwrite,
    Quiet,
    Ratio,
    Seed,
    Sensitivity,
    TargetTexts,
    mark,
)
from causal_lm_opt._run.shell import (
    DEMO_EXAMPLE,
    DOCTOR_EXAMPLE,
    EVALUATE_EXAMPLE,
    EXAMPLES,
    EXIT_CODES,
    HONG_KONG_EXAMPLE,
    PERSUASION_EXAMPLE,
    SCORE_EXAMPLE,
    SIMULATE_EXAMPLE,
    Command,
    Group,
    one_line,
    say,
)
from causal_lm_opt._run.simulate_command import simulate

if TYPE_CHECKING:
    from causal_lm_opt._evaluation import Evaluation

__all__ = ["app", "main"]

#: The commands, as a Typer application.
app = typer.Typer(
    name="causal-lm-opt",
    cls=Group,
    help="Value of language policies from logged texts and their outcomes.",
    epilog=EXAMPLES + EXIT_CODES,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point of ``causal-lm-opt``."""
    app(prog_name="causal-lm-opt")


# ------------------------------------------------------------------------------ commands
def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"causal-lm-opt {__version__}\n")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Value of language policies from logged texts and their outcomes."""


def _column(name: str, text: str, default: str | bool = "none") -> Any:
    return typer.Option(
        f"--{name}", metavar="COL", help=text, show_default=default, rich_help_panel=COLUMNS
    )


def _option(name: str, metavar: str, text: str, panel: str, default: str) -> Any:
    return typer.Option(
        f"--{name}", metavar=metavar, help=text, show_default=default, rich_help_panel=panel
    )


@app.command(cls=Command, epilog=EVALUATE_EXAMPLE + EXIT_CODES)
def evaluate(
    context: typer.Context,
    log: Annotated[
        str,
        typer.Argument(metavar="LOG", help="Log: .csv, .tsv, .jsonl (also .gz) or .parquet."),
    ],
    text: Annotated[str, _column("text", "Texts.", default=True)] = "text",
    outcome: Annotated[
        str | None, _column("outcome", "Outcomes (numbers).", "needed unless --clicks")
    ] = None,
    clicks: Annotated[
        str | None, _column("clicks", "Successes, in place of --outcome (with --impressions).")
    ] = None,
    impressions: Annotated[str | None, _column("impressions", "Trials, with --clicks.")] = None,
    prompt: Annotated[
        str | None,
        _column("prompt", "What the texts answer. The rows of a prompt are a cluster, unless "
                "--group names others; the draws' column of that name says theirs."),
    ] = None,
    group: Annotated[
        str | None,
        _column("group", "Clusters (reader, prompt, test): rows that depend.",
                "the prompts, or the arms of --clicks, else each row on its own"),
    ] = None,
    independent: Annotated[
        list[str] | None,
        _column("independent", "Labels of rows that were drawn one by one, and so no clusters "
                "though their outcomes are alike (repeat for more)."),
    ] = None,
    weight: Annotated[
        str | None, _column("weight", "Frequency weights: 3 stands for three rows.", "1")
    ] = None,
    by: Annotated[
        str | None, _column("by", "Subgroups to value, and to compare policies in, as well; "
                "draws with this column count in the log's mix.")
    ] = None,
    logp_logging: Annotated[
        str | None, _column("logp-logging", "Natural log-probability under the logging policy.")
    ] = None,
    logging_policy: Annotated[
        str | None,
        _option("logging-policy", "FOLDER", "A causal LM that stands in for --logp-logging: an "
                "estimate, and the report says so.", POLICIES, "none"),
    ] = None,
    policy: Annotated[
        list[str] | None,
        _option("policy", "NAME=COL|FOLDER", "A target policy and its column of log-probabilities, "
                "or the folder of a causal LM that scores the texts here (repeat for more).",
                POLICIES, "the policies of --draws"),
    ] = None,
    draws: Annotated[
        str | None,
        _option("draws", "FILE|N", "Texts of the target policies: columns policy (needed where "
                "there are several), text (and features); optional group, the column of --by, "
                "weight, logp_target, logp_sampling, logp_logging. A number: draw N texts from "
                "each policy that is a model (of each prompt).",
                POLICIES, "none"),
    ] = None,
    target_texts: TargetTexts = None,
    cache: Annotated[
        str | None,
        _option("cache", "DIR", "Keep the scores of models here.", POLICIES,
                "beside --out until the run is done"),
    ] = None,
    support: Annotated[
        bool,
        typer.Option(
            "--support",
            help="The draws file lists each policy's exact support, with column prob or "
            "logp_target.",
            rich_help_panel=POLICIES,
        ),
    ] = False,
    reference: Annotated[
        str | None,
        _option("reference", "POLICY", "Policy to take differences from.", POLICIES,
                "the logging policy"),
    ] = None,
    estimator: Annotated[
        list[str] | None,
        _option("estimator", "[ht|hajek|or|dr]", "Estimator (repeat for more).", METHOD,
                "all that the inputs identify"),
    ] = None,
    outcome_model: Annotated[
        str | None,
        _option("outcome-model", "[tfidf-ridge|ridge|linear|logistic|forest]",
                "Model of the outcome. tfidf-ridge reads the text and any features; the others "
                "read the features alone where there are any.", METHOD, "tfidf-ridge"),
    ] = None,
    feature: Annotated[
        list[str] | None,
        _option("feature", "COL", "Numeric column for the outcome model (and an estimated ratio), "
                "in LOG and draws (repeat for more).", METHOD, "none"),
    ] = None,
    ratio: Ratio = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    cv: Cv = 5,
    level: Level = 0.95,
    seed: Seed = 0,
    sensitivity: Sensitivity = False,
    out: Out = DEFAULT_OUT,
    overwrite: Overwrite = False,
    figures: Figures = True,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Value target policies on a log of texts and outcomes."""
    from causal_lm_opt._run.log import Request, evaluate_file, parse_policies
    from causal_lm_opt._run.models import forget_scores, kept_scores

    request = Request(
        log=log, text=text, outcome=outcome, clicks=clicks, impressions=impressions,
        prompt=prompt, group=group, weight=weight, by=by, logp_logging=logp_logging,
        logging_policy=logging_policy, policies=parse_policies(policy or ()), draws=draws,
        support=support, features=tuple(feature or ()),
        independent=tuple(independent or ()), outcome_model=outcome_model,
        target_texts=target_texts, ratio=ratio, delimiter=mark(delimiter), decimal=decimal,
        cache=cache or str(kept_scores(out)), progress=False if quiet else None,
    )  # fmt: skip
    settings = _settings(
        level, seed, cv, estimator, reference, figures=figures, sensitivity=sensitivity
    )
    _run(context, lambda: evaluate_file(request, settings), lambda: request.inputs)
    if cache is None:
        forget_scores(out)


@app.command(
    cls=Command, epilog=DEMO_EXAMPLE + EXIT_CODES, short_help="Try it on the shipped experiment."
)
def demo(
    context: typer.Context,
    level: Level = 0.95,
    seed: Seed = 0,
    cv: Cv = 5,
    sensitivity: Sensitivity = False,
    train: Annotated[
        bool,
        typer.Option(
            "--train",
            help="Then train a tiny language model on it, into DIR-training (a minute or two; "
            "needs torch).",
            rich_help_panel=RUN,
        ),
    ] = False,
    out: Out = DEFAULT_OUT,
    overwrite: Overwrite = False,
    figures: Figures = True,
    quiet: Quiet = False,
) -> None:
    """Evaluate the shipped experiment, each estimate beside the truth."""
    from causal_lm_opt._run import demo as example

    settings = _settings(level, seed, cv, figures=figures, sensitivity=sensitivity)
    if train:
        from causal_lm_opt._run import optimize_demo

        left_out = optimize_demo.check_training_demo(out)
    _run(context, lambda: example.demo(settings), example.demo_files)
    if train and left_out is not None:
        say(f"\n{left_out}\n")
    elif train:
        done = optimize_demo.train_demo(out, seed=seed, figures=figures, quiet=quiet)
        say("" if quiet else f"\n{done.text}")


@app.command(
    "hong-kong", cls=Command, epilog=HONG_KONG_EXAMPLE + EXIT_CODES,
    short_help="Value policies on the Hong Kong text experiment.",
)  # fmt: skip
def hong_kong(
    context: typer.Context,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="hong_kong_2019.csv (or a file of its layout) beside hong_kong_arm_texts.csv, "
            "or their folder.",
        ),
    ],
    level: Level = 0.95,
    seed: Seed = 0,
    cv: Cv = 5,
    sensitivity: Sensitivity = False,
    out: Out = DEFAULT_OUT,
    overwrite: Overwrite = False,
    figures: Figures = True,
    quiet: Quiet = False,
) -> None:
    """Value policies over pieces on the Hong Kong text experiment."""
    from causal_lm_opt._run import hong_kong as experiment

    settings = _settings(level, seed, cv, figures=figures, sensitivity=sensitivity)
    _run(
        context,
        lambda: experiment.hong_kong(path, settings),
        lambda: experiment.hong_kong_files(path),
    )


@app.command(
    cls=Command,
    epilog=PERSUASION_EXAMPLE + EXIT_CODES,
    short_help="Value language models and people as authors.",
)
def persuasion(
    context: typer.Context,
    messages: Annotated[
        str,
        typer.Option(
            "--messages", metavar="FILE", rich_help_panel=FILES,
            help="CSV (also .gz) with columns message_id, issue, model, text; or the folder of "
            "both files.",
        ),
    ],
    outcomes: Annotated[
        str | None,
        typer.Option(
            "--outcomes", metavar="FILE", rich_help_panel=FILES,
            help="CSV (also .gz) with columns message_id (0: control), issue, dv_response_mean.",
            show_default="beside the messages",
        ),
    ] = None,
    level: Level = 0.95,
    seed: Seed = 0,
    out: Out = DEFAULT_OUT,
    overwrite: Overwrite = False,
    figures: Figures = True,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Value language models and people as authors on the persuasion experiment."""
    from causal_lm_opt._run import persuasion as experiment

    settings = _settings(level, seed, 5, figures=figures)
    _run(
        context,
        lambda: experiment.persuasion(messages, outcomes, settings),
        lambda: experiment.persuasion_files(messages, outcomes),
    )


@app.command(cls=Command, epilog=DOCTOR_EXAMPLE + EXIT_CODES)
def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON in place of the table.")
    ] = False,
) -> None:
    """Check the installation.

    Tells versions, threads, devices, extras and data files; writes nothing. Exit code 0 if the
    core works, 1 if not.
    """
    from causal_lm_opt._run.doctor import as_text, examine
    from causal_lm_opt._run.output import json_text

    found = examine()
    say(json_text(found) if as_json else as_text(found))
    if not found["works"]:
        raise typer.Exit(1)


@app.command(
    cls=Command, epilog=SCORE_EXAMPLE + EXIT_CODES,
    short_help="Add a language model's log-probabilities to a log.",
)  # fmt: skip
def score(
    log: Annotated[
        str, typer.Argument(metavar="LOG", help="Log: .csv, .tsv, .jsonl (also .gz) or .parquet.")
    ],
    model: Annotated[
        str, typer.Option("--model", metavar="FOLDER", help="Folder or hub name of a causal LM.")
    ],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="The scored log, .csv.")],
    text: Annotated[str, _column("text", "Texts.", "text")] = "text",
    prompt: Annotated[str | None, _column("prompt", "Prompts.")] = None,
    column: Annotated[
        str, typer.Option("--column", metavar="NAME", help="Name of the new column.")
    ] = "logp",
    adapter: Annotated[
        str | None, typer.Option("--adapter", metavar="FOLDER", help="PEFT adapter.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="TYPE", help="float32, bfloat16, ...")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", metavar="NAME", help="cpu, cuda, ...")
    ] = None,
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="T", help="Of the sampler that is scored.")
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option("--top-k", metavar="K", help="Tokens it keeps; 0 keeps all.")
    ] = 0,
    top_p: Annotated[
        float, typer.Option("--top-p", metavar="P", help="Probability it keeps.")
    ] = 1.0,
    eos: Annotated[bool, typer.Option("--eos/--no-eos", help="Count the end of the text.")] = True,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Score the beginning of texts that are too long.")
    ] = False,
    cache: Annotated[
        str | None, typer.Option("--cache", metavar="DIR", help="Keep scores here.")
    ] = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Score a log's texts under a language model; run again after a stop, it goes on."""
    from causal_lm_opt._run.score import ScoreRequest, score_file
    from causal_lm_opt._run.terminal import collected_warnings

    request = ScoreRequest(
        log, model, out, text=text, prompt=prompt, column=column, adapter=adapter, dtype=dtype,
        device=device, temperature=temperature, top_k=top_k, top_p=top_p, eos=eos,
        truncate=truncate, cache=cache, delimiter=mark(delimiter), decimal=decimal,
        overwrite=overwrite,
        progress=False if quiet else None,
    )  # fmt: skip
    try:
        with collected_warnings() as messages:
            done = score_file(request)
    except KeyboardInterrupt:
        say("interrupted; run again to go on, scores so far are kept\n", error=True)
        # Not typer.Exit(130): the shell would add that nothing was written.
        raise SystemExit(130) from None
    for message in messages:
        say(f"warning: {one_line(message)}\n", error=True)
    if not quiet:
        say(str(done))


app.command(
    cls=Command, epilog=SIMULATE_EXAMPLE + EXIT_CODES,
    short_help="Run a simulation study with known truth.",
)(simulate)  # fmt: skip
app.command(
    cls=Command, epilog=OPTIMIZE_EXAMPLE + EXIT_CODES,
    short_help="Train a language model on a log, and value it.",
)(optimize)  # fmt: skip
app.command(
    cls=Command, epilog=COMPARE_EXAMPLE + EXIT_CODES, short_help="Compare finished training runs."
)(compare)


# ------------------------------------------------------------------------------ running
def _settings(
    level: float,
    seed: int,
    cv: int,
    estimators: Sequence[str] | None = None,
    reference: str | None = None,
    *,
    figures: bool,
    sensitivity: bool = False,
) -> Any:
    from causal_lm_opt._cells import did_you_mean
    from causal_lm_opt._evaluation import ESTIMATORS, Settings

    for name in estimators or ():
        if name not in ESTIMATORS:
            raise ValueError(
                f"--estimator {name!r} is not known; use {', '.join(ESTIMATORS)}"
                f"{did_you_mean(name, ESTIMATORS)}"
            )
    if not 0.0 < level < 1.0:
        raise ValueError(f"--level must lie between 0 and 1, as in 0.95; got {level:g}")
    chosen = tuple(dict.fromkeys(estimators)) if estimators else None
    return Settings(
        chosen, cv=cv, level=level, seed=seed, reference=reference, figures=figures,
        sensitivity=sensitivity,
    )  # fmt: skip


def _run(
    context: typer.Context,
    make: Callable[[], Evaluation],
    inputs: Callable[[], Sequence[tuple[str, str | Path]]],
) -> None:
    """Check the folder, evaluate, write everything, then print."""
    from causal_lm_opt._evaluate import with_provenance
    from causal_lm_opt._run.output import (
        check_output,
        check_unchanged,
        file_stamps,
        write_folder,
    )
    from causal_lm_opt._run.provenance import command_line, provenance
    from causal_lm_opt._run.terminal import collected_warnings
    from causal_lm_opt._run.text import summary
    from causal_lm_opt.estimators._progress import progress_shown
    from causal_lm_opt.report import report_files

    arguments = dict(context.params)
    out, overwrite = arguments["out"], bool(arguments["overwrite"])
    check_output(out, overwrite=overwrite)
    given = inputs()
    stamps = file_stamps(given)
    visible = not arguments["quiet"] and sys.stderr.isatty()
    with collected_warnings() as messages, progress_shown(visible):
        evaluation = make()
    check_unchanged(stamps)
    models = evaluation.provenance.get("models", ())
    facts = provenance(
        str(context.info_name), arguments, given, command_line(context), models=models
    )
    evaluation = with_provenance(evaluation, facts, messages)
    for message in messages:
        say(f"warning: {one_line(message)}\n", error=True)
    with progress_shown(visible):
        files = report_files(evaluation)
    write_folder(out, files, overwrite=overwrite)
    if not arguments["quiet"]:
        say(summary(evaluation, out))


if __name__ == "__main__":
    main()
