"""Mutated files for the readers: ``python -m benchmarks.fuzz``.

Each input is a valid log (CSV, TSV, JSON lines, Parquet, plain or gzipped) with something done to
its bytes. The reader of the command line must give the rows that the bytes hold, as counted by the
plain parsers below, or refuse in one line: no other exception, no crash, no rows lost in silence.
Inputs are numbered; number and seed make one again.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from causal_lm_opt.exceptions import DataError
from causal_lm_opt.logged import LoggedData

SEED = 20261121
RESULTS = Path(__file__).parent / "results" / "validation" / "fuzz.json"
SUFFIXES = ("csv", "tsv", "csv.gz", "jsonl", "jsonl.gz", "parquet")
SECONDS = 10.0
LONGEST = 600  # characters of a message
COLUMNS: dict[str, Any] = {
    "text": "text",
    "outcome": "y",
    "logp_logging": "lp",
    "logp_target": {"new": "lp_new"},
    "group": "reader",
}
WORDS = (
    "plain", "kind", "caf\u00e9", "\u65e5\u672c", '"quoted"', "it's", "a,b", "semi;colon", "=1+1",
    "line\nbreak", "tab\there", "NA", "007", "\U0001f333", "<script>", "\\", "{}", "null",
)  # fmt: skip
CONTROL = b"\x00\x01\x07\x08\x0b\x0c\x1a\x1b\x7f\x85\xa0\xff\xfe\r\n\t\"',;\\{}[]"
Rng = np.random.Generator
GOOD = ("unchanged", "same rows", "refused", "cut in the last cell, warned")


class _TooSlow(BaseException):
    """The time limit; no ``OSError``, which readers turn into a refusal."""


@dataclass(frozen=True)
class Case:
    """One input: its bytes, and what was done to them."""

    number: int
    suffix: str
    mutation: str
    data: bytes
    whole: LoggedData
    """The log before the mutation."""


# ------------------------------------------------------------------------------ valid logs
def table(rng: Rng) -> dict[str, list[Any]]:
    """Columns of a valid log of 3 to 200 rows."""
    n = int(2 + 10 ** rng.uniform(0, 2.3))
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(n)]
    return {
        "text": texts,
        "reader": [f"r{i // 2}" for i in range(n)],
        "y": np.round(rng.normal(3, 2, n), 3).tolist(),
        "lp": np.round(-rng.exponential(9, n) - 0.01, 6).tolist(),
        "unread": rng.integers(0, 10**9, n).tolist(),
        "lp_new": np.round(-rng.exponential(9, n) - 0.01, 6).tolist(),
    }


def encoded(columns: dict[str, list[Any]], kind: str, rng: Rng) -> bytes:
    """The columns as a file of the kind; quoting, line ends and writers vary."""
    rows = list(zip(*columns.values(), strict=True))
    if kind == "jsonl":
        lines = [
            json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=bool(rng.random() < 0.5))
            for row in rows
        ]
        return ("\n".join(lines) + "\n").encode()
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(
            pa.table(columns), sink,
            compression=str(rng.choice(["none", "snappy", "zstd", "gzip"])),
            row_group_size=int(rng.integers(1, len(rows) + 1)),
            use_dictionary=bool(rng.random() < 0.5),
            write_page_checksum=bool(rng.random() < 0.5),
        )  # fmt: skip
        return sink.getvalue()
    stream = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if rng.random() < 0.3 else csv.QUOTE_MINIMAL
    ends = "\r\n" if rng.random() < 0.5 else "\n"
    mark = "\t" if kind == "tsv" else ","
    writer = csv.writer(stream, delimiter=mark, quoting=quoting, lineterminator=ends)
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue().encode()


# ------------------------------------------------------------------------------ mutations
def _truncate(data: bytes, rng: Rng) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def _flip_bits(data: bytes, rng: Rng) -> bytes:
    out = np.frombuffer(data, np.uint8).copy()
    at = rng.integers(0, len(out), min(int(rng.geometric(0.5)), 8))
    out[at] ^= np.uint8(1) << rng.integers(0, 8, at.size).astype(np.uint8)
    return out.tobytes()


def _insert_control(data: bytes, rng: Rng) -> bytes:
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(data) + 1))
        byte = CONTROL[int(rng.integers(0, len(CONTROL)))]
        data = data[:at] + bytes([byte]) * int(rng.integers(1, 4)) + data[at:]
    return data


def _swap_quotes(data: bytes, rng: Rng) -> bytes:
    found = [i for i, byte in enumerate(data) if byte in b"\"'"]
    out = bytearray(data)
    for i in rng.choice(found, min(len(found), 3), replace=False) if found else ():
        out[i] = ord("'") if out[i] == ord('"') else ord('"')
    return bytes(out)


def _drop_span(data: bytes, rng: Rng) -> bytes:
    a, b = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    return data[:a] + data[min(b, a + 80) :]


def _repeat_span(data: bytes, rng: Rng) -> bytes:
    a, b = sorted(rng.integers(0, len(data) + 1, 2).tolist())
    return data[:b] + data[a:b] + data[b:]


def _zero_block(data: bytes, rng: Rng) -> bytes:
    a = int(rng.integers(0, len(data)))
    return data[:a] + b"\0" * min(64, len(data) - a) + data[a + 64 :]


def _huge_field(data: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(0, len(data) + 1))
    stuff = [b"x", b"9", b'"', b",", b"\xe2\x82\xac", b"-1e9,"][int(rng.integers(0, 6))]
    return data[:at] + stuff * int(10 ** rng.uniform(3, 5.7)) + data[at:]


def _deep_nesting(data: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(0, len(data) + 1))
    depth = int(10 ** rng.uniform(1, 5))
    lines = data.splitlines(keepends=True)
    if rng.random() < 0.5 and lines:
        i = int(rng.integers(0, len(lines)))
        nested = b'{"a":' * depth + b"1" + b"}" * depth
        lines[i] = lines[i].rstrip()[:-1] + b',"deep":' + nested + b"}\n"
        return b"".join(lines)
    return data[:at] + b"[" * depth + data[at:]


def _wrong_encoding(data: bytes, rng: Rng) -> bytes:
    name = str(rng.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252"]))
    return data.decode("utf-8", "replace").encode(name, "replace")


def _mixed_encodings(data: bytes, rng: Rng) -> bytes:
    lines = data.splitlines(keepends=True)
    i = int(rng.integers(0, len(lines)))
    lines[i] = (
        lines[i].decode("utf-8", "replace").replace("a", "\xe9", 1).encode("latin-1", "replace")
    )
    return b"".join(lines)


def _line_ends(data: bytes, rng: Rng) -> bytes:
    end = [b"\r", b"\r\n", b"\n\n", b"\n\r"][int(rng.integers(0, 4))]
    return data.replace(b"\r\n", b"\n").replace(b"\n", end)


def _mark(data: bytes, rng: Rng) -> bytes:
    return b"\xef\xbb\xbf" * int(rng.integers(1, 3)) + data


def _garbage(data: bytes, rng: Rng) -> bytes:
    junk = rng.bytes(int(rng.integers(1, 200)))
    return data + junk if rng.random() < 0.5 else junk + data


def _twice(data: bytes, rng: Rng) -> bytes:
    return data + data


MUTATIONS: dict[str, Callable[[bytes, Rng], bytes]] = {
    "truncation": _truncate,
    "bit flips": _flip_bits,
    "control bytes": _insert_control,
    "quotes swapped": _swap_quotes,
    "span dropped": _drop_span,
    "span repeated": _repeat_span,
    "block of zeros": _zero_block,
    "huge field": _huge_field,
    "deep nesting": _deep_nesting,
    "wrong encoding": _wrong_encoding,
    "mixed encodings": _mixed_encodings,
    "line ends": _line_ends,
    "byte order mark": _mark,
    "garbage": _garbage,
    "appended to itself": _twice,
}


def make_case(number: int, seed: int = SEED) -> Case:
    """The input of that number."""
    rng = np.random.default_rng([seed, number])
    suffix = SUFFIXES[int(rng.integers(0, len(SUFFIXES)))]
    mutation = list(MUTATIONS)[int(rng.integers(0, len(MUTATIONS)))]
    columns = table(rng)
    kind = suffix.removesuffix(".gz")
    data = encoded(columns, kind, rng)
    packed = suffix.endswith(".gz")
    inside = packed and rng.random() < 0.5
    if packed and not inside:
        data = gzip.compress(data, mtime=0)
    data = MUTATIONS[mutation](data, rng)
    if inside:
        data = gzip.compress(data, mtime=0)
    whole = LoggedData(
        text=columns["text"], outcome=columns["y"], logp_logging=columns["lp"],
        logp_target=_frame({"new": columns["lp_new"]}), groups=columns["reader"],
    )  # fmt: skip
    return Case(number, suffix, mutation, data, whole)


def _frame(columns: dict[str, list[float]]) -> Any:
    import pandas as pd

    return pd.DataFrame(columns)


# ------------------------------------------------------------------------------ plain parsers
def csv_records(text: str, delimiter: str) -> int:
    """Records of RFC 4180 text that are not blank, the header among them."""
    records, quoted, begun, at_start, i = 0, False, False, True, 0
    while i < len(text):
        c = text[i]
        if quoted:
            if c == '"' and text[i + 1 : i + 2] == '"':
                i += 1
            elif c == '"':
                quoted = False
        elif c in "\r\n":
            records += begun
            begun, at_start = False, True
        else:
            quoted = at_start and c == '"'
            at_start, begun = c == delimiter, True
        i += 1
    return records + begun


def rows_held(case: Case) -> int:
    """Rows that the bytes hold, counted without the package's readers."""
    kind = case.suffix.removesuffix(".gz")
    if kind == "parquet":  # nothing but its own rows or a refusal
        return len(case.whole)
    data = gzip.decompress(case.data) if case.data[:2] == b"\x1f\x8b" else case.data
    if kind == "jsonl":
        return sum(1 for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip())
    return csv_records(data.decode("utf-8-sig"), "\t" if kind == "tsv" else ",") - 1


# ------------------------------------------------------------------------------ judging
@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def late(*_: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judge(case: Case, folder: Path) -> tuple[str, str]:
    """Outcome (one of ``GOOD``, or what went wrong) and what was said."""
    path = folder / f"log.{case.suffix}"
    path.write_bytes(case.data)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            with _limit(SECONDS):
                log = LoggedData.read(path, **COLUMNS)
        except _TooSlow:
            return "too slow", ""
        except DataError as error:
            said = str(error)
            if "\n" in said or len(said) > LONGEST or not said.startswith(str(path)):
                return "badly said", said[:LONGEST]
            return "refused", said
        except Exception as error:  # noqa: BLE001 - what the fuzz is after
            return f"exception {type(error).__name__}", str(error)[:200]
    return _accepted(case, log, " ".join(str(w.message) for w in seen))


def _accepted(case: Case, log: LoggedData, warned: str) -> tuple[str, str]:
    if log.fingerprint == case.whole.fingerprint:
        return "unchanged", warned
    held = rows_held(case)
    if len(log) != held:
        return "rows lost or added", f"{len(log)} read, {held} held"
    if case.mutation == "truncation" and not case.suffix.endswith("gz"):
        kept = case.whole[: len(log)]
        if log.fingerprint != kept.fingerprint:
            good = "last line has no line end" in warned
            return ("cut in the last cell, warned" if good else "cut in silence"), warned
    return "same rows", warned


def judge_numbers(numbers: list[int], seed: int) -> list[tuple[int, str, str, str, str]]:
    """Number, suffix, mutation, outcome and message of several inputs."""
    with tempfile.TemporaryDirectory() as folder:
        found = []
        for number in numbers:
            case = make_case(number, seed)
            found.append((number, case.suffix, case.mutation, *judge(case, Path(folder))))
        return found


def _one_by_one(numbers: list[int], seed: int) -> list[tuple[int, str, str, str, str]]:
    """As :func:`judge_numbers`, each in a process of its own, so that one that dies is found."""
    found = []
    for number in numbers:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                found += pool.submit(judge_numbers, [number], seed).result()
            except BrokenProcessPool:
                case = make_case(number, seed)
                found.append((number, case.suffix, case.mutation, "process died", ""))
    return found


def run(inputs: int, jobs: int, path: Path, seed: int = SEED) -> int:
    """Judge inputs 0, 1, ..., write the counts, and return how many went wrong."""
    from benchmarks.validate import begin  # not where a test loads this file alone

    begun = begin(seed)
    chunks = [list(range(i, min(i + 250, inputs))) for i in range(0, inputs, 250)]
    results: list[tuple[int, str, str, str, str]] = []
    broken: list[list[int]] = []
    for chunk in chunks:  # a pool for each chunk: one that dies takes no other with it
        parts = [chunk[j::jobs] for j in range(jobs)]
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(judge_numbers, part, seed) for part in parts]
        for part, future in zip(parts, futures, strict=True):
            try:
                results += future.result()
            except BrokenProcessPool:
                broken.append(part)
    for part in broken:
        results += _one_by_one(part, seed)
    wrong = sorted(r for r in results if r[3] not in GOOD)
    figures = begun | {
        "inputs": len(results),
        "seconds": round(time.time() - begun["seconds"]),
        "outcomes": dict(sorted(Counter(r[3] for r in results).items())),
        "by mutation": _cross(results, 2),
        "by format": _cross(results, 1),
        "wrong": [dict(zip(("number", "format", "mutation", "outcome", "said"), r, strict=True))
                  for r in wrong[:50]],
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures["outcomes"]))
    return len(wrong)


def _cross(results: list[tuple[int, str, str, str, str]], by: int) -> dict[str, dict[str, int]]:
    names = sorted({str(r[by]) for r in results})
    return {
        name: dict(sorted(Counter(r[3] for r in results if r[by] == name).items()))
        for name in names
    }


def main(argv: list[str] | None = None) -> int:
    """Run the fuzz; exit status 1 if an input went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args(argv)
    return int(run(arguments.inputs, arguments.jobs, arguments.json, arguments.seed) > 0)


if __name__ == "__main__":
    sys.exit(main())
