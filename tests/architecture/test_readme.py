"""The README's example runs as printed, from a checkout, and prints what the README shows."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """First fenced block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.S)
    assert found, f"the README has no {language} block"
    return found.group(1)


def test_the_example_prints_what_the_readme_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(block("python"), "README.md", "exec"), {})

    def words(text: str) -> list[str]:
        return text.split()

    assert words(printed.getvalue()) == words(block("text"))


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) < 200
    assert "@@" not in README
