"""The report in a real browser: light and dark, desktop and phone, with hostile texts in the data.

Needs Chromium and the packages ``playwright`` and ``axe-playwright-python``; skipped without.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from causal_lm_opt.cli import app

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
axe = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="needs the package axe-playwright-python"
)
BROWSER = next(
    (p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine"),
]
EVIL = (
    "<script>document.title='owned';alert(1)</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "</title></style></svg></textarea><svg onload=\"document.title='owned'\">",
    "'\"><iframe src=http://example.invalid></iframe>",
    "{{7*7}}${7*7}<!-- ]]> &lt;b&gt; $x^2$ \\frac{1}{2}",
    "\u202eright to left\u202c \u0000\ufeff \U0001f9ea " + "W" * 300,
)
VIEWS = [(s, w) for s in ("light", "dark") for w in (1200, 390)]
NARROW = ("light", 320)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of data that attack in every text field: texts, names, labels, file name."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    n, texts = 600, [t.replace("\0", "") for t in EVIL]
    log, target = np.full(6, 1 / 6), np.array([0.3, 0.1, 0.2, 0.1, 0.2, 0.1])
    at = rng.choice(6, n, p=log)
    outcome, column, policy = (
        f"y{texts[0]}",
        f"lp{texts[1]}",
        texts[2].replace("=", "\uff1d"),
    )  # NAME=COL
    frame = pd.DataFrame(
        {"text": np.array(texts)[at], outcome: at + rng.normal(size=n), "lp": np.log(log)[at]}
    )
    frame[column] = np.log(target)[at]
    frame["town"] = np.array(texts)[rng.choice(2, n) + 3]
    frame.to_csv(folder / "<b>log&.csv", index=False)
    drawn = rng.choice(6, n, p=target)
    pd.DataFrame(
        {
            "policy": policy, "text": np.array(texts)[drawn], "logp_target": np.log(target)[drawn],
            "logp_logging": np.log(log)[drawn],
        }
    ).to_csv(folder / "draws.csv", index=False)  # fmt: skip
    arguments = [
        "evaluate", str(folder / "<b>log&.csv"), "--outcome", outcome, "--logp-logging", "lp",
        "--policy", f"{policy}={column}", "--draws", str(folder / "draws.csv"),
        "--out", str(folder / "out"), "--figures",
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser: Any, page_file: Path, scheme: str, width: int, *, bypass: bool) -> Any:
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=bypass
    )
    page = context.new_page()
    page.told = []
    page.asked = []
    page.on("console", lambda message: page.told.append(message.text))
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on("dialog", lambda dialog: page.told.append(dialog.message))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(page_file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    return page


@pytest.mark.parametrize(("scheme", "width"), [*VIEWS, NARROW])
def test_nothing_runs_nothing_is_fetched_nothing_overflows(
    browser: Any, page_file: Path, scheme: str, width: int
) -> None:
    page = opened(browser, page_file, scheme, width, bypass=False)
    assert page.told == []
    assert page.asked == [page_file.as_uri()]
    assert page.title() == "Policy values"
    assert page.locator("script, iframe, img, object, embed, link").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


@pytest.mark.parametrize(("scheme", "width"), VIEWS)
def test_axe_finds_no_violation(browser: Any, page_file: Path, scheme: str, width: int) -> None:
    """Contrast, names of images, headings, landmarks, focus (axe-core's whole default set)."""
    page = opened(browser, page_file, scheme, width, bypass=True)  # axe is a script
    found = axe.Axe().run(page).response["violations"]
    assert [(v["id"], [n["target"] for n in v["nodes"]][:3]) for v in found] == []
    page.context.close()


def test_dark_ink_is_for_screens_alone(browser: Any, page_file: Path) -> None:
    """On paper the page is dark on light, and nothing is cut off by a scroll box."""
    page = opened(browser, page_file, "dark", 700, bypass=False)
    page.emulate_media(media="print", color_scheme="dark")
    look = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(look) == "rgb(255, 255, 255)"
    boxes = "[...document.querySelectorAll('.scroll')].map(e => getComputedStyle(e).overflowX)"
    assert set(page.evaluate(boxes)) == {"visible"}
    page.context.close()


def test_texts_are_as_wide_as_a_phone_lets_them_be(browser: Any, page_file: Path) -> None:
    page = opened(browser, page_file, "light", 320, bypass=False)
    widths = page.evaluate(
        "[...document.querySelectorAll('blockquote')].map(e => e.getBoundingClientRect().width)"
    )
    assert widths
    assert min(widths) > 240
    page.context.close()
