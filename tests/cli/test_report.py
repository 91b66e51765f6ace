"""The page: well-formed, self-contained, escaped, and it says what the tables say."""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from causal_lm_opt._evaluation import (
    LABELS,
    LOGGING,
    MEAN,
    Contrast,
    Evaluation,
    Part,
    Row,
    Settings,
    Table,
)
from causal_lm_opt._run.figures import _texts, forest_figure
from causal_lm_opt._run.glossary import GLOSSARY
from causal_lm_opt._run.markdown import report_markdown
from causal_lm_opt._run.numbers import answers
from causal_lm_opt._run.text import summary
from causal_lm_opt._views import TextShare
from causal_lm_opt.diagnostics.trust import FIGURE_HEADERS
from causal_lm_opt.report import report_html

from .conftest import Files, Run, make_draws, make_log

VOID = {"meta", "br", "hr", "img", "link", "input"}
EVIL = "<script>alert(1)</script>\"'&"


class Page(HTMLParser):
    """Checks that every element is closed in order; keeps texts, tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def evil(files: Files, run: Run) -> Page:
    """A report in which every name that comes from the data is an attack."""
    log = make_log().rename(columns={"y": f"y{EVIL}", "lp_warm": f"lp{EVIL}"})
    log["town"] = EVIL
    log.to_csv(files.log, index=False)
    draws = make_draws().query("policy == 'warm'").assign(policy=f"p{EVIL}")
    draws.to_csv(files.draws, index=False)
    arguments = ["evaluate", str(files.log), "--outcome", f"y{EVIL}", "--logp-logging", "lp"]
    arguments += ["--policy", f"p{EVIL}=lp{EVIL}", "--draws", str(files.draws), "--by", "town"]
    result = run([*arguments, *files.out(EVIL.replace("/", "")), "--estimator", "dr"])
    assert result.exit_code == 0, result.output
    return page_of(files.folder / EVIL.replace("/", ""))


def test_text_from_the_data_is_escaped(evil: Page) -> None:
    assert evil.all("script") == []
    assert f"p{EVIL}" in evil.text
    assert f"y{EVIL}" in evil.text


def test_the_page_is_self_contained_and_forbids_scripts(evil: Page) -> None:
    tags = {tag for tag, _ in evil.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    for _, attributes in evil.tags:
        assert not {"src", "href", "srcset", "data", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    (policy,) = [m["content"] for m in evil.all("meta") if m.get("http-equiv")]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_the_page_is_accessible(evil: Page) -> None:
    assert evil.all("html") == [{"lang": "en"}]
    assert len(evil.all("title")) >= 1
    assert len(evil.all("h1")) == 1
    assert [m for m in evil.all("meta") if m.get("name") == "viewport"]
    assert evil.all("th")
    assert all(t.get("scope") in ("col", "row") for t in evil.all("th"))
    for svg in evil.all("svg"):
        assert svg["role"] == "img"
        ids = {a["id"] for _, a in evil.tags if "id" in a}
        assert set((svg["aria-labelledby"] or "").split()) <= ids


def test_the_page_says_what_the_tables_say(files: Files, run: Run) -> None:
    result = run([*files.evaluate, "--draws", str(files.draws), *files.out()])
    page = page_of(files.folder / "out")
    for line in result.stdout.split("\n\n")[1].splitlines()[2:]:
        shown = re.split(r"  +", line.strip())
        assert all(cell in page.text for cell in shown), shown
    for said in ("No diagnostic sees", "log.csv", "Joint band", "SHA-256", "seed 0"):
        assert said in page.text
    assert page.text.count("do not use") >= 1
    assert len(page.all("details")) == 5  # numbers, diagnostics, computation, glossary, settings


def row(policy: str, estimator: str, value: float, half: float, verdict: str = "caution") -> Row:
    return Row(
        policy=policy, estimator=estimator, value=value, se=half / 1.96, lower=value - half,
        upper=value + half, verdict=verdict, reasons=("Why.",), figures={"ess": float("inf")},
    )  # fmt: skip


def part_of(*rows: Row) -> Part:
    return Part("log", "The log", "", "y", rows, (), (), (), {"Logged rows": 10.0})


def test_a_value_not_to_be_used_is_no_answer() -> None:
    bad = row("p", "dr", 5.0, 1.0, "do not use")
    (_, said) = answers(part_of(row(LOGGING, MEAN, 1.0, 0.1), bad), 0.95)
    assert said.startswith("p: no usable answer")


def test_the_forest_figure_is_the_table() -> None:
    """One row a finite value; a value that is no number is left to the table."""
    rows = (row(LOGGING, MEAN, 1.0, 0.1), row("p", "ht", math.nan, 1.0), row("<q>", "hajek", 2, 1))
    svg = forest_figure(replace(part_of(*rows), figures=True), 0.95)
    page = Page(svg)
    assert "<q>" in page.text
    assert "Hajek" in page.text
    assert "Horvitz-Thompson" not in page.text
    assert len(page.all("svg")) == 1
    assert forest_figure(part_of(row("p", "ht", math.nan, 1.0)), 0.95) == ""


def test_what_stands_behind_a_value(files: Files, run: Run) -> None:
    """Plots, checks in words and the texts that count, for each policy."""
    arguments = [*files.evaluate, "--draws", str(files.draws), *files.out(), "--figures"]
    assert run(arguments).exit_code == 0
    page = page_of(files.folder / "out")
    assert len(page.all("svg")) == 2 + 2 * 5  # answer, all estimators, five plots a policy
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for said in ("Texts that count most", "Balance:", "Calibration:", "long kind note"):
        assert said in page.text
    facts = json.loads((files.folder / "out/diagnostics.json").read_text(encoding="utf-8"))
    assert set(facts["parts"][0]["checks"]) == {"warm", "brief"}
    assert "smd_weighted" in facts["parts"][0]["checks"]["warm"]["balance"]["table"][0]


@pytest.mark.parametrize("value", [0.0, 1e-9, -3e8, 1e12, float("inf"), float("nan")])
def test_odd_numbers_can_be_shown(value: float) -> None:
    rows = [row(LOGGING, MEAN, 0.0, 0.0), row("p", "ht", value, abs(value))]
    evaluation = Evaluation("T", "Q?", (part_of(*rows),), 0.95)
    page = Page(report_html(evaluation))
    assert "class=" in report_html(evaluation)
    assert "p" in page.text
    assert "verdict" in summary(evaluation, "out")


def test_long_names_and_wide_letters_keep_the_table_aligned() -> None:
    rows = [
        row(LOGGING, MEAN, 1.0, 0.1),
        row("日本語の方針", "ht", 1.5, 0.2),
        row("x" * 90, "ht", 1, 1),
    ]
    text = summary(Evaluation("T", "Q?", (part_of(*rows),), 0.95), "out")
    lines = text.splitlines()[2:7]
    assert lines[3].index("Horvitz") + len("日本語の方針") == lines[4].index("Horvitz")
    page = Page(report_html(Evaluation("T", "Q?", (part_of(*rows),), 0.95)))
    assert "x" * 90 in page.text


def test_several_parts_and_the_truth() -> None:
    rows = (row(LOGGING, MEAN, 1.0, 0.1), row("p", "ht", 2.0, 0.5))
    known = tuple(replace(r, truth=t) for r, t in zip(rows, (1.05, 3.0), strict=True))
    parts = (replace(part_of(*known), key="a", title="A"), replace(part_of(*rows), key="b"))
    text = report_html(Evaluation("T", "Q?", parts, 0.95))
    page = Page(text)
    assert "Covered" in page.text
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert [r.covers for r in known] == [True, False]
    assert Settings().level == 0.95


def test_the_markdown_report_shows_data_as_text(files: Files, run: Run) -> None:
    """No markup, HTML, table cell, link or code span comes of a name in the data."""
    evil = "<b>*x*</b> | [a](http://b.c) `d` www.e.f"
    rows = (row(LOGGING, MEAN, 1.0, 0.1), row(evil, "ht", 2.0, 0.5))
    text = report_markdown(Evaluation(f"# {evil}", "Q?", (part_of(*rows),), 0.95))
    (line,) = [x for x in text.splitlines() if "Horvitz-Thompson |" in x]
    bare = re.sub(r"\\.", "", line)
    assert bare.count("|") == 7
    assert not re.search(r"[<>*`\[\]]|://|www\.", bare)
    assert text.startswith("# \\# \\<b\\>")
    result = run([*files.evaluate, "--draws", str(files.draws), *files.out()])
    written = (files.folder / "out/report.md").read_text(encoding="utf-8")
    for shown in result.stdout.split("\n\n")[1].splitlines()[2:]:
        assert all(cell in written for cell in re.split(r"  +", shown.strip())), shown


def test_the_reproducing_command_is_the_command(files: Files, run: Run) -> None:
    """Run again from the report's own words, the estimates are the same."""
    first = run([*files.evaluate, "--cv", "3", "--draws", str(files.draws), *files.out("a b")])
    assert first.exit_code == 0
    facts = json.loads((files.folder / "a b/diagnostics.json").read_text(encoding="utf-8"))
    words = shlex.split(facts["reproduce"])
    assert words[0] == "causal-lm-opt"
    again = run([*words[1:], "--overwrite"])
    assert again.exit_code == 0, again.output
    assert again.stdout == first.stdout


def test_every_word_of_the_tables_is_in_the_glossary() -> None:
    said = " ".join(GLOSSARY).lower()
    for word in (*LABELS.values(), "ESS", *FIGURE_HEADERS):
        assert word.lower() in said, word


# ---------------------------------------------------------------------- what comes first
def contrast(policy: str, estimator: str, low: float, high: float) -> Contrast:
    middle = (low + high) / 2
    return Contrast(
        policy, LOGGING, estimator, middle, (high - low) / 4, low, high, low, high, "caution"
    )


def many_policies(count: int, **changes: object) -> Evaluation:
    """The mean of the log, and two estimators of each of many policies."""
    rows = [row(LOGGING, MEAN, 50.0, 1.0, "trustworthy")]
    for k in range(count):
        rows += [
            row(f"policy {k}", "hajek", 40.0 + k, 2.0),
            row(f"policy {k}", "dr", 41.0 + k, 1.0),
        ]
    gaps = [
        contrast(f"policy {k}", e, k - 12.0, k - 6.0) for k in range(count) for e in ("hajek", "dr")
    ]
    part = replace(part_of(*rows), contrasts=tuple(gaps), **changes)  # type: ignore[arg-type]
    return Evaluation("T", "Q?", (part,), 0.95, notes=("A note.",), warnings=("Careful!",))


def test_the_answer_comes_first_and_the_rest_is_folded() -> None:
    """Question, answer, one table row a policy by the estimator that speaks, verdict, notes."""
    html = report_html(many_policies(25))
    seen = Page(re.sub(r"<details>.*?</details>", "", html, flags=re.S)).text
    order = [
        "Q?", "Answer", "The largest value is that of policy 24", "Values: mean of y (doubly",
        "usable with the reasons", "A note.", "What stands behind this", "Careful!",
    ]  # fmt: skip
    assert [seen.index(words) for words in order] == sorted(seen.index(w) for w in order)
    assert "tends to be too large" in seen
    assert "Hajek" not in seen
    assert Page(html).text.count("Hajek") > 25
    assert len(html) < 150_000


def test_few_policies_have_a_sentence_each_and_no_word_on_the_largest() -> None:
    assert "The largest value" not in report_html(many_policies(8))


def test_one_figure_for_the_answer_and_one_for_all_estimators() -> None:
    html = report_html(many_policies(25, figures=True))
    main, others = re.findall(r"<svg.*?</svg>", html, flags=re.S)
    assert "Hajek" not in main
    assert "Hajek" in others
    assert 'class="main"' in html
    assert html.index(main) < html.index("<details>") < html.index(others)
    assert len(html) < 300_000


def test_subgroups_stand_under_their_policy() -> None:
    rows = [row(LOGGING, MEAN, 50.0, 1.0), row("a | b", "dr", 51.0, 1.0)]
    rows += [replace(row("a | b", "dr", 5.0, 1.0), subgroup=g) for g in ("c", "d | e")]
    part = replace(part_of(*rows), figures=True)
    page = Page(report_html(Evaluation("T", "Q?", (part,), 0.95)))
    assert "Subgroups" in page.words
    svg = forest_figure(part, 0.95, rows=part.rows[2:], name="subgroups")
    shown = re.findall(r"<text[^>]*>([^<]*)", svg)
    assert [w for w in shown if w in ("a | b", "c", "d | e")] == ["c", "d | e", "a | b"]


def test_diagnostics_have_readable_names_and_stand_the_narrower_way() -> None:
    figures = {"ess": 1882.71, "ess_share": 0.5, "new_figure": 2.0, "pareto_k": None, "n": 3000.0}
    few = [replace(row(f"p{k}", "dr", 1.0, 1.0), figures=figures) for k in range(2)]
    page = Page(report_html(Evaluation("T", "Q?", (part_of(*few),), 0.95)))
    text = page.text[page.text.index("Figures behind") :]
    assert text.index("Figure p0 p1 rows 3,000") < text.index("ESS per row 50% 50%")
    assert "new figure 2.00 2.00" in text
    assert "Pareto k" not in text[: text.index("What no figure")]
    more = [replace(few[0], policy=f"p{k}") for k in range(6)]
    text = Page(report_html(Evaluation("T", "Q?", (part_of(*more),), 0.95))).text
    assert "Policy rows effective sample size (ESS) ESS per row new figure p0 3,000" in text


def test_figures_that_estimators_share_are_shown_once() -> None:
    shared = {"n": 10.0, "ess": 8.0}
    rows = [
        replace(row("p", "hajek", 1.0, 1.0), figures=shared | {"se_dof": 5.0}),
        replace(row("p", "dr", 1.0, 1.0), figures=shared | {"se_dof": 6.0}),
    ]
    text = Page(report_html(Evaluation("T", "Q?", (part_of(*rows),), 0.95))).text
    text = text[text.index("Figures behind") : text.index("What no figure")]
    assert text.count("(ESS)") == 1
    assert text.count("degrees of freedom") == 2


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.004, 0.58, "0.004 to 0.580"), (-0.58, 0.0, "-0.58 to 0.00"), (-0.3, 0.3, "-0.30 to 0.30")],
)
def test_a_band_without_zero_is_not_printed_as_one_that_ends_there(
    low: float, high: float, shown: str
) -> None:
    gap = replace(contrast("p", "dr", low, high), se=0.15)
    part = replace(part_of(row(LOGGING, MEAN, 1, 1), row("p", "dr", 1, 1)), contrasts=(gap,))
    assert shown in Page(report_html(Evaluation("T", "Q?", (part,), 0.95))).text


def test_a_further_table_is_flush_and_says_what_is_missing() -> None:
    table = Table("More", "Text.", ("who", "mean", "p", "n"), (
        ("a", 1.5, 1.3e-6, 1200), ("b", 21.25, 0.25, 7), ("c", "n/a", float("nan"), 0),
    ))  # fmt: skip
    text = Page(report_html(Evaluation("T", "Q?", (), 0.95, tables=(table,)))).text
    assert "a 1.50 < 0.001 1,200 b 21.25 0.250 7 c n/a n/a 0" in text


def test_a_name_cannot_turn_its_sentence_and_a_text_keeps_its_marks() -> None:
    html = report_html(
        Evaluation("T", "Q?", (part_of(row("evil\u202e00.1", "dr", 1.0, 1.0)),), 0.95)
    )
    assert "\u202e" not in html
    assert "evil\ufffd00.1" in html
    share = TextShare("\u2067abc\u2069", 1.0, 2.0, 0.5, 0.1)
    assert "&#8295;abc&#8297;" in _texts([share])
