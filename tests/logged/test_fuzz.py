"""A few hundred of the mutated files of ``benchmarks.fuzz``, which runs 10,000."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

INPUTS = 300


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("benchmarks_fuzz", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_no_input_breaks_or_deceives_the_readers(fuzz: ModuleType, tmp_path: Path) -> None:
    outcomes = []
    for number in range(INPUTS):
        case = fuzz.make_case(number, seed=1)
        outcome, said = fuzz.judge(case, tmp_path)
        assert outcome in fuzz.GOOD, (number, case.suffix, case.mutation, outcome, said)
        outcomes.append(outcome)
    for outcome in ("unchanged", "same rows", "refused"):
        assert outcomes.count(outcome) > INPUTS // 50


def test_the_judge_sees_lost_rows(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A negative control: a reader that drops a row, one that fails, one that rambles."""
    from causal_lm_opt.exceptions import DataError

    number = next(
        n for n in range(200) if fuzz.judge(fuzz.make_case(n, 1), tmp_path)[0] == "same rows"
    )
    case = fuzz.make_case(number, 1)
    read = fuzz.LoggedData.read
    monkeypatch.setattr(fuzz.LoggedData, "read", lambda *a, **k: read(*a, **k)[1:])
    assert fuzz.judge(case, tmp_path)[0] == "rows lost or added"

    def failing(error: Exception) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(fuzz.LoggedData, "read", fail)

    failing(KeyError("x"))
    assert fuzz.judge(case, tmp_path)[0] == "exception KeyError"
    failing(DataError("two\nlines"))
    assert fuzz.judge(case, tmp_path)[0] == "badly said"


@pytest.mark.parametrize(
    ("text", "records"),
    [("a,b\n1,2\n", 2), ("a,b\r\n1,2", 2), ('"a\nb",c\n\n\n1,2\n', 2), ('a"b,c\n"x""y",2\n', 2)],
)
def test_the_plain_parser(fuzz: ModuleType, text: str, records: int) -> None:
    assert fuzz.csv_records(text, ",") == records
