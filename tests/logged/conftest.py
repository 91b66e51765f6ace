"""Writers of the same rows in every format the readers take."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Table = Mapping[str, Sequence[Any]]
Write = Callable[[str, Table], Path]

FORMATS = ("csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "json", "parquet")


def as_csv(table: Table, delimiter: str) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return stream.getvalue().encode()


def as_jsonl(table: Table) -> bytes:
    rows = (dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(suffix: str, table: Table) -> Path:
        path = tmp_path / f"log.{suffix}"
        if suffix == "parquet":
            pq.write_table(pa.table({k: list(v) for k, v in table.items()}), path)
            return path
        kind = suffix.removesuffix(".gz")
        delimiter = "\t" if kind == "tsv" else ","
        data = as_csv(table, delimiter) if kind in ("csv", "tsv") else as_jsonl(table)
        path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
        return path

    return _write
