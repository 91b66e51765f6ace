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

from causal_lm_opt._evaluation import LABELS, LOGGING, MEAN, Evaluation, Part, Row, Settings
from causal_lm_opt._run.figures import forest_figure
from causal_lm_opt._run.glossary import GLOSSARY
from causal_lm_opt._run.markdown import report_markdown
from causal_lm_opt._run.numbers import answers
from causal_lm_opt._run.text import summary
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
    for line in result.stdout.splitlines()[2:11]:
        shown = re.split(r"  +", line.strip())
        assert all(cell in page.text for cell in shown), shown
    for said in ("No diagnostic sees", "log.csv", "Joint band", "SHA-256", "seed 0"):
        assert said in page.text
    assert page.text.count("do not use") >= 1
    assert len(page.all("details")) == 2  # diagnostics, glossary


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
    assert len(page.all("svg")) == 1 + 2 * 5
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    for said in ("Texts with the largest weight", "Balance:", "Calibration:", "long kind note"):
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
    lines = text.splitlines()[:5]
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
    for shown in result.stdout.splitlines()[2:11]:
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
