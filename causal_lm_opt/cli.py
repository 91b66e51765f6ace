"""The command line ``causal-lm-opt``: reads arguments, calls the package, writes a folder.

Exit codes: 0 done; 2 bad usage or bad input; 3 the output exists or cannot be written;
130 interrupted; 1 an unexpected failure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from causal_lm_opt import __version__

if TYPE_CHECKING:
    from causal_lm_opt._evaluation import Evaluation

__all__ = ["app", "main"]

TRACEBACK = "CAUSAL_LM_OPT_TRACEBACK"
EXIT_CODES = (
    "Exit codes: 0 done; 2 bad usage or bad input (one line on stderr, 'error: ...'); 3 the "
    "output folder exists or cannot be written; 130 interrupted; 1 unexpected failure (set "
    f"{TRACEBACK}=1 to see the traceback)."
)


class _Group(TyperGroup):
    """Commands whose every failure is one line on stderr and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and leave by ``sys.exit``."""

        def run() -> Any:
            return super(_Group, self).main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )

        sys.exit(_exit_code(run))


app = typer.Typer(
    name="causal-lm-opt",
    cls=_Group,
    help="Value of language policies from logged texts and their outcomes.",
    epilog=EXIT_CODES,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Entry point of ``causal-lm-opt``."""
    app(prog_name="causal-lm-opt")


# ------------------------------------------------------------------------------ commands
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the results.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the results of an earlier run in DIR.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Level = Annotated[float, typer.Option("--level", help="Confidence level, between 0 and 1.")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed.")]
Cv = Annotated[int, typer.Option("--cv", min=2, help="Folds of cross-fitting.")]
DEFAULT_OUT = Path("causal-lm-opt-output")


def _show_version(wanted: bool) -> None:
    if wanted:
        _say(f"causal-lm-opt {__version__}\n")
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


def _column(name: str, text: str) -> Any:
    return typer.Option(f"--{name}", metavar="COL", help=text)


@app.command(epilog=EXIT_CODES)
def evaluate(
    context: typer.Context,
    log: Annotated[
        str,
        typer.Argument(metavar="LOG", help="Log: .csv, .tsv, .jsonl (also .gz) or .parquet."),
    ],
    text: Annotated[str, _column("text", "Texts.")] = "text",
    outcome: Annotated[str | None, _column("outcome", "Outcomes (numbers).")] = None,
    clicks: Annotated[
        str | None, _column("clicks", "Successes, in place of --outcome (with --impressions).")
    ] = None,
    impressions: Annotated[str | None, _column("impressions", "Trials.")] = None,
    prompt: Annotated[str | None, _column("prompt", "Prompts; checked, not used yet.")] = None,
    group: Annotated[
        str | None, _column("group", "Clusters (reader, prompt, test): rows that depend.")
    ] = None,
    weight: Annotated[str | None, _column("weight", "Frequency weights.")] = None,
    by: Annotated[str | None, _column("by", "Subgroups to value separately as well.")] = None,
    logp_logging: Annotated[
        str | None, _column("logp-logging", "Natural log-probability under the logging policy.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", metavar="NAME=COL",
            help="A target policy and its column of log-probabilities (repeat for more).",
        ),
    ] = None,
    draws: Annotated[
        str | None,
        typer.Option(
            "--draws", metavar="FILE",
            help="Texts of the target policies: columns policy, text (and features); optional "
            "group, weight, logp_target, logp_sampling, logp_logging.",
        ),
    ] = None,
    support: Annotated[
        bool,
        typer.Option(
            "--support",
            help="The draws file lists each policy's exact support, with column prob or "
            "logp_target.",
        ),
    ] = False,
    feature: Annotated[
        list[str] | None,
        _column("feature", "Numeric column for the outcome model, in LOG and draws (repeat)."),
    ] = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(
            "--estimator", metavar="[ht|hajek|or|dr]",
            help="Estimator (repeat); default: all that the inputs identify.",
        ),
    ] = None,
    outcome_model: Annotated[
        str | None,
        typer.Option(
            "--outcome-model", metavar="[tfidf-ridge|ridge|linear|logistic|forest]",
            help="Default tfidf-ridge, on the text and any features; the others read the "
            "features alone where there are any.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", metavar="POLICY",
                     help="Policy to take differences from [default: the logging policy]."),
    ] = None,
    cv: Cv = 5,
    level: Level = 0.95,
    seed: Seed = 0,
    out: Out = DEFAULT_OUT,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Value target policies on a log of texts and outcomes."""
    from causal_lm_opt._run.log import Request, evaluate_file, parse_policies

    request = Request(
        log=log, text=text, outcome=outcome, clicks=clicks, impressions=impressions,
        prompt=prompt, group=group, weight=weight, by=by, logp_logging=logp_logging,
        policies=parse_policies(policy or ()), draws=draws, support=support,
        features=tuple(feature or ()), outcome_model=outcome_model,
    )  # fmt: skip
    settings = _settings(level, seed, cv, estimator, reference)
    inputs = [("log", log)] + ([("draws", draws)] if draws else [])
    _run(context, lambda: evaluate_file(request, settings), lambda: inputs)


@app.command(epilog=EXIT_CODES)
def demo(
    context: typer.Context,
    level: Level = 0.95,
    seed: Seed = 0,
    cv: Cv = 5,
    out: Out = DEFAULT_OUT,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate the shipped experiment, each estimate beside the truth."""
    from causal_lm_opt._run import demo as example

    settings = _settings(level, seed, cv)
    _run(context, lambda: example.demo(settings), example.demo_files)


@app.command("hong-kong", epilog=EXIT_CODES)
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
    out: Out = DEFAULT_OUT,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Value policies over pieces on the Hong Kong text experiment."""
    from causal_lm_opt._run import hong_kong as experiment

    settings = _settings(level, seed, cv)
    _run(
        context,
        lambda: experiment.hong_kong(path, settings),
        lambda: experiment.hong_kong_files(path),
    )


# ------------------------------------------------------------------------------ running
def _settings(
    level: float,
    seed: int,
    cv: int,
    estimators: Sequence[str] | None = None,
    reference: str | None = None,
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
    return Settings(chosen, cv=cv, level=level, seed=seed, reference=reference)


def _run(
    context: typer.Context,
    make: Callable[[], Evaluation],
    inputs: Callable[[], Sequence[tuple[str, str | Path]]],
) -> None:
    """Check the folder, evaluate, write everything, then print."""
    from causal_lm_opt._evaluate import collected_warnings, with_provenance
    from causal_lm_opt._run.output import check_output, write_folder
    from causal_lm_opt._run.provenance import command_line, provenance
    from causal_lm_opt._run.text import summary
    from causal_lm_opt.report import report_files

    arguments = dict(context.params)
    out, overwrite = arguments["out"], bool(arguments["overwrite"])
    check_output(out, overwrite=overwrite)
    with collected_warnings() as messages:
        evaluation = make()
    facts = provenance(
        str(context.info_name), arguments, inputs(), command_line(context)
    )
    evaluation = with_provenance(evaluation, facts, messages)
    for message in messages:
        _say(f"warning: {_one_line(message)}\n", error=True)
    write_folder(out, report_files(evaluation), overwrite=overwrite)
    if not arguments["quiet"]:
        _say(summary(evaluation, out))


def _say(text: str, *, error: bool = False) -> None:
    """Write to stdout (or stderr) whatever the terminal can show; a closed pipe is no error."""
    stream = sys.stderr if error else sys.stdout
    shown = text.encode(stream.encoding or "utf-8", "backslashreplace")
    try:
        stream.write(shown.decode(stream.encoding or "utf-8"))
        stream.flush()
    except BrokenPipeError:
        # The reader has gone (`| head`); Python would complain once more on leaving.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _one_line(text: str) -> str:
    from causal_lm_opt._run.terminal import printable

    return printable(" ".join(text.split()))


def _fail(message: str, code: int) -> int:
    _say(f"error: {_one_line(message)}\n", error=True)
    if os.environ.get(TRACEBACK, "") not in ("", "0"):
        import traceback

        _say(traceback.format_exc(), error=True)
    return code


def _exit_code(run: Callable[[], Any]) -> int:
    """Run a command; say in one line what went wrong."""
    from causal_lm_opt._run.output import OutputError

    interrupted = "interrupted; nothing was written"
    try:
        code = run()
    except KeyboardInterrupt:
        return _fail(interrupted, 130)
    except OutputError as error:
        return _fail(str(error), 3)
    except (ValueError, FileNotFoundError) as error:
        return _fail(str(error), 2)
    except Exception as error:  # noqa: BLE001 - the last resort: reported, and told apart by code
        if isinstance(error, typer.Abort) or _caused_by_interrupt(error):
            return _fail(interrupted, 130)
        if hasattr(error, "format_message"):  # a usage error, whichever click it comes from
            return _fail(f"{error.format_message()} See causal-lm-opt --help.", 2)
        hint = f"set {TRACEBACK}=1 to see the traceback"
        return _fail(f"unexpected failure ({type(error).__name__}: {error}); {hint}", 1)
    if code == 130:  # newer typers turn Ctrl-C into this
        return _fail(interrupted, 130)
    return code if isinstance(code, int) else 0


def _caused_by_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error (in an import it may surface as something else)."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


if __name__ == "__main__":
    main()
