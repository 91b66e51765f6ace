"""The command line's shell: grouped help, one line and an exit code for every failure.

Light to import: nothing here loads NumPy.
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from causal_lm_opt._run.interrupts import interrupts_kept
from causal_lm_opt._run.terminal import of_draws_files, printable

__all__ = [
    "DEMO_EXAMPLE",
    "DOCTOR_EXAMPLE",
    "EVALUATE_EXAMPLE",
    "EXAMPLES",
    "EXIT_CODES",
    "HONG_KONG_EXAMPLE",
    "PERSUASION_EXAMPLE",
    "SCORE_EXAMPLE",
    "SIMULATE_EXAMPLE",
    "TRACEBACK",
    "Command",
    "Group",
    "one_line",
    "say",
]

TRACEBACK = "CAUSAL_LM_OPT_TRACEBACK"
EXIT_CODES = (
    "Exit codes: 0 done; 2 bad usage or bad input (one line on stderr, 'error: ...'); 3 the "
    "output folder exists or cannot be written; 130 interrupted; 1 unexpected failure (set "
    f"{TRACEBACK}=1 to see the traceback)."
)
# "\b" keeps the lines of a paragraph as they are.
EXAMPLES = """\b
Examples:
  causal-lm-opt demo --out demo
  causal-lm-opt evaluate log.csv --text message --outcome rating \\
    --logp-logging logp_old --policy new=logp_new --out ratings

"""
EVALUATE_EXAMPLE = """\b
Example, on the data of a checkout:
  causal-lm-opt evaluate data/text_experiment.csv --outcome outcome \\
    --logp-logging logp_logging --policy friendly=logp_friendly \\
    --policy less_cost=logp_less_cost \\
    --policy neighbours_and_easy=logp_neighbours_and_easy \\
    --draws data/text_experiment_draws.csv --out result

"""

DEMO_EXAMPLE = """\b
Example:
  causal-lm-opt demo --out demo

"""
HONG_KONG_EXAMPLE = """\b
Example:
  causal-lm-opt hong-kong "$CAUSAL_LM_OPT_DATA" --out hong-kong

"""
PERSUASION_EXAMPLE = """\b
Example:
  causal-lm-opt persuasion --messages "$CAUSAL_LM_OPT_DATA" --out persuasion

"""
SCORE_EXAMPLE = """\b
Example:
  causal-lm-opt score log.csv --model path/to/model --column logp_f --out scored.csv

"""
SIMULATE_EXAMPLE = """\b
Example:
  causal-lm-opt simulate double-robustness --quick --out study

\b
A study of your own, as study.toml:
  sizes = [500, 2000]           # also: replications, level, about
  [designs."strength 2"]        # as many as you like
  world = "confounded-log"      # gaussian, hidden-confounder, confounded-log,
  strength = 2.0                # drifted-logging, tokens, prompts, texts; then its arguments
  [estimators.DR]
  kind = "dr"                   # ht, hajek, or, dr
  outcome_model = "linear"      # for or, dr: linear, ridge, logistic, forest, tfidf-ridge

"""
DOCTOR_EXAMPLE = """\b
Example:
  causal-lm-opt doctor --json > doctor.json

"""
ONE_COLUMN = ("--group", "--by", "--prompt", "--weight")
INTERRUPTED = "interrupted; nothing was written"


class Command(TyperCommand):
    """A command whose help lists its options under the titles of their panels.

    Of most options given twice the second counts; columns of which there is one are refused, as
    two would be meant.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse a second column where there is one."""
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            for parameter, count in Counter(order).items():
                name = parameter.opts[0]
                if count > 1 and name in ONE_COLUMN:
                    ctx.fail(
                        f"{name} takes one column and is given {count}: name one, or make one "
                        "column of them."
                    )
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then each panel's options in the order of the panels."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None) or "Other options"
                title = "Arguments" if parameter.param_type_name == "argument" else panel
                name, text = record
                # Typer sets a default told in words in brackets of its own.
                text = re.sub(r"\[default: \((.*)\)", r"[default: \1", text)
                panels.setdefault(title, []).append((name, text))
        for title, records in panels.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Group(TyperGroup):
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
            return super(Group, self).main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )

        with interrupts_kept():
            code = _exit_code(run)
        sys.exit(code)


def say(text: str, *, error: bool = False) -> None:
    """Write to stdout (or stderr) whatever the terminal can show; a closed pipe is no error.

    Raises
    ------
    OutputError
        If stdout cannot be written for another reason, such as a full disk.
    """
    from causal_lm_opt._run.output import OutputError

    stream = sys.stderr if error else sys.stdout
    shown = text.encode(stream.encoding or "utf-8", "backslashreplace")
    try:
        stream.write(shown.decode(stream.encoding or "utf-8"))
        stream.flush()
    except OSError as problem:
        # What is left in the stream's buffer would make Python complain once more on leaving.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        # `| head` has read enough; and of stderr there is nowhere left to say it.
        if not (error or isinstance(problem, BrokenPipeError)):
            raise OutputError(f"the summary cannot be printed: {problem.strerror}") from problem


def one_line(text: str) -> str:
    """Text for a terminal as one line, control characters spelled out."""
    return printable(" ".join(text.split()))


def _fail(message: str, code: int) -> int:
    say(f"error: {one_line(of_draws_files(message))}\n", error=True)
    if os.environ.get(TRACEBACK, "") not in ("", "0"):
        import traceback

        say(traceback.format_exc(), error=True)
    return code


def _exit_code(run: Callable[[], Any]) -> int:
    """Run a command; say in one line what went wrong."""
    from causal_lm_opt._run.output import OutputError

    try:
        code = run()
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, 130)
    except OutputError as error:
        return _fail(str(error), 3)
    except (ValueError, FileNotFoundError) as error:
        return _fail(str(error), 2)
    except Exception as error:  # noqa: BLE001 - the last resort: reported, and told apart by code
        if isinstance(error, typer.Abort) or _caused_by_interrupt(error):
            return _fail(INTERRUPTED, 130)
        if hasattr(error, "format_message"):  # a usage error, whichever click it comes from
            return _fail(f"{error.format_message()} See causal-lm-opt --help.", 2)
        hint = f"set {TRACEBACK}=1 to see the traceback"
        return _fail(f"unexpected failure ({type(error).__name__}: {error}); {hint}", 1)
    if code == 130:  # newer typers turn Ctrl-C into this
        return _fail(INTERRUPTED, 130)
    return code if isinstance(code, int) else 0


def _caused_by_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error (in an import it may surface as something else)."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
