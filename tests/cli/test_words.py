"""What is said of a part in words: answers, differences, reasons, and what to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from causal_lm_opt._evaluation import LOGGING, MEAN, Contrast, Evaluation, Part, Row, Table
from causal_lm_opt._run.glossary import which_to_read
from causal_lm_opt._run.numbers import MANY, answers
from causal_lm_opt._run.text import reasons_of, summary

from .conftest import Files, Run


def row(
    policy: str, estimator: str = "dr", verdict: str = "caution", reasons: Sequence[str] = ()
) -> Row:
    return Row(policy, estimator, 5.0, 0.5, 4.0, 6.0, verdict, tuple(reasons), {"ess": 20792.3})


def contrast(
    policy: str, value: float, half: float = 1.0, verdict: str = "caution", reference: str = LOGGING
) -> Contrast:
    low, high = value - half, value + half
    return Contrast(policy, reference, "dr", value, half / 2, low, high, low, high, verdict)


def part_of(rows: Sequence[Row], contrasts: Sequence[Contrast] = ()) -> Part:
    return Part("log", "The log", "", "y", tuple(rows), tuple(contrasts), (), (), {"Rows": 9.0})


def printed(part: Part, *tables: Table) -> str:
    return summary(Evaluation("T", "Q?", (part,), 0.95, tables=tables), "out")


# ------------------------------------------------------------------------------ answers
def many(n: int, differ: int) -> Part:
    """``n`` policies of which the first ``differ`` differ, the later ones by more."""
    names = [f"p{i}" for i in range(n)]
    rows = [row(LOGGING, MEAN), *map(row, names)]
    return part_of(rows, [contrast(p, 2.0 + i if i < differ else 0.5) for i, p in enumerate(names)])


def test_up_to_eight_policies_have_a_sentence_each() -> None:
    assert len(answers(many(MANY, 2), 0.95)) == 1 + MANY


def test_of_many_policies_those_that_differ_lead_and_the_others_are_counted() -> None:
    said = answers(many(25, 2), 0.95)
    assert len(said) == 1 + 2 + 1
    assert said[1].startswith("p0: about 5.00")
    assert said[2].startswith("p1: about 5.00")
    assert "do not tell apart from the logging policy, jointly: 23 policies" in said[3]
    assert "(caution: p2, p3, " in said[3]


def test_of_many_that_differ_the_largest_differences_lead() -> None:
    said = answers(many(25, 20), 0.95)
    assert [s.split(":")[0] for s in said[1 : 1 + MANY]] == [f"p{i}" for i in range(12, 20)]
    assert said[1 + MANY].startswith("Different from the logging policy too, by less: 12 policies")
    assert said[-1].endswith("5 policies (caution: p20, p21, p22, p23, p24).")


def test_of_many_the_unusable_are_named_as_such_and_long_lists_end() -> None:
    part = many(60, 0)
    rows = [replace(r, verdict="do not use") if r.policy == "p3" else r for r in part.rows]
    contrasts = [c for c in part.contrasts if c.policy != "p4"]
    said = answers(replace(part, rows=tuple(rows), contrasts=tuple(contrasts)), 0.95)
    assert "No usable answer from these data for 1 policy (do not use: p3)." in said
    assert "In the table alone, without a usable difference: 1 policy (caution: p4)." in said
    assert any("58 policies" in s and s.endswith(" and 28 more).") for s in said)


def test_a_difference_from_an_unusable_reference_is_not_told() -> None:
    rows = [row(LOGGING, MEAN), row("p"), row("q", verdict="do not use")]
    contrasts = [
        contrast(LOGGING, 3.0, verdict="do not use", reference="q"),
        contrast("p", 3.0, verdict="do not use", reference="q"),
    ]
    said = answers(part_of(rows, contrasts), 0.95)
    assert all("difference from policy 'q' is not to be used" in s for s in said[:2])
    assert not any("above" in s for s in said)


def test_the_logging_policy_is_compared_with_another_reference() -> None:
    rows = [row(LOGGING, MEAN, "trustworthy"), row("p")]
    (first, _) = answers(part_of(rows, [contrast(LOGGING, -3.0, reference="p")]), 0.95)
    assert "That is 3.00 below policy 'p' (difference -4.00 to -2.00; caution)." in first


def test_one_difference_is_not_joint_and_a_band_off_zero_does_not_touch_it() -> None:
    (_, said) = answers(part_of([row(LOGGING, MEAN), row("p")], [contrast("p", 1.004)]), 0.95)
    assert "(difference 0.004 to 2.004)" in said


# ------------------------------------------------------------------------------ the terminal
def test_the_terminal_prints_differences_and_names_further_tables() -> None:
    table = Table("Shares of arms", "", ("a",), ((1,),))
    text = printed(many(2, 1), table)
    assert "Differences from the logging policy; the 95% bands hold for all policies" in text
    assert "p0      doubly robust        2.00   1.00 to 3.00  caution" in text
    assert "p1      doubly robust        0.50  -0.50 to 1.50  caution" in text
    assert "Further tables, in report.html and report.md: Shares of arms" in text
    assert "Rows: rows: 9." in text
    assert "20,792" in text  # not 2.079e+04


def test_of_many_policies_only_differences_off_zero_are_printed() -> None:
    lines = printed(many(25, 2)).split("Differences from")[1].split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines[-3:-1]] == ["p0", "p1"]
    assert lines[-1].endswith("usable difference: 23 policies; see contrasts.csv.")


def test_no_differences_no_table() -> None:
    assert "Differences" not in printed(part_of([row(LOGGING, MEAN)]))


# ------------------------------------------------------------------------------ reasons
def test_reasons_that_differ_in_numbers_alone_are_one() -> None:
    rows = [
        row("p", reasons=["It is 42 rows of 1,510 (k .73 > .7, 1e-05, 8%)."]),
        row("q", reasons=["It is 9 rows of 510 (k .81 > .7, 2e-05, 10%)."]),
        row("q", "hajek", reasons=["It is 9 rows of 510 (k .81 > .7, 2e-05, 10%)."]),
    ]
    assert reasons_of(part_of(rows)) == [
        (
            "It is 9 to 42 rows of 510 to 1,510 (k .73 to .81 > .7, 1e-05 to 2e-05, 8% to 10%).",
            "all policies (doubly robust); q (Hajek)",
        )
    ]


def test_numbers_in_quoted_names_keep_reasons_apart() -> None:
    rows = [
        row("p", reasons=["Most of all '7', 2 se."]),
        row("q", reasons=["Most of all '8', 3 se."]),
    ]
    assert reasons_of(part_of(rows)) == [
        ("Most of all '7', 2 se.", "p (doubly robust)"),
        ("Most of all '8', 3 se.", "q (doubly robust)"),
    ]


# ------------------------------------------------------------------------------ what to read
@pytest.mark.parametrize(
    ("there", "said", "unsaid"),
    [
        (["mean", "ht", "hajek", "or", "dr"], "Read the doubly robust row first", "All values"),
        (["mean", "dr"], "All values are doubly robust", "other rows"),
        (["mean", "ht", "hajek"], "Horvitz-Thompson rests on the same", "Outcome regression"),
        (["mean", "hajek"], "All values are Hajek", "Horvitz-Thompson"),
        (["hajek", "or"], "Outcome regression is right only if", "Horvitz-Thompson"),
        (["or"], "nothing here can correct it", "Hajek"),
    ],
)
def test_only_the_rows_that_are_there_are_spoken_of(
    there: list[str], said: str, unsaid: str
) -> None:
    text = which_to_read(name for name in there)
    assert said in text
    assert unsaid not in text


# ------------------------------------------------------------------------------ bad input
def test_a_log_without_the_default_column_of_texts(files: Files, run: Run) -> None:
    files.log.write_text("message,y\na,1\nb,2\n", encoding="utf-8")
    result = run(["evaluate", str(files.log), "--outcome", "y", *files.out()])
    assert result.exit_code == 2
    assert "no column 'text': name the column of texts with --text COL" in result.stderr
    assert "'message', 'y'" in result.stderr


def test_what_is_lacking_names_the_option(files: Files, run: Run) -> None:
    arguments = ["evaluate", str(files.log), "--outcome", "y", "--draws", str(files.draws)]
    result = run([*arguments, "--logp-logging", "lp", *files.out()])
    assert result.exit_code == 0, result.output
    flat = " ".join(result.stdout.split())
    assert "Horvitz-Thompson, Hajek, doubly robust: it needs log-probabilities" in flat
    assert "under the target policies (--policy NAME=COL)." in flat
