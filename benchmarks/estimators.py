"""Time and memory of the estimators against plain NumPy and peers.

``python -m benchmarks.estimators`` times every task of ``benchmarks.tasks`` on one BLAS thread
(once to warm up, then the minimum of interleaved runs), measures peak memory in fresh processes,
and runs the peers in an environment it makes (``--peers-env``). ``--quick`` takes about a minute.
Cells are kept as they finish, so that an interrupted run of the same sources resumes; a finished
run clears them, so that the ratios of one file were measured together.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

import causal_lm_opt
from benchmarks.peers import ONE_THREAD, PEERS, measure, peak_mb, prepare, reset_peak
from benchmarks.tasks import N_SIM, SEED, TASKS, Figures, Inputs, disagreement, make_effect

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SIZES = (10_000, 100_000, 1_000_000)
QUICK_SIZES = (2_000, 20_000)
LARGE = 1_000_000  # from here on fewer repeats
PEER_TIMEOUT = 1800.0
MANY = 100  # policies of the constant-memory claim
#: What is measured in a process of its own: task, run and numbers of policies.
PROBES: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("values", "ours", (1,)),
    ("values", "plain NumPy", (1,)),
    ("policies", "ours", (1, 10, MANY)),
    ("policies", "plain NumPy", (1, 10, MANY)),
    ("band", "ours", (5,)),
    ("band", "plain NumPy", (5,)),
    ("crossfit", "ours", (1,)),
    ("crossfit", "ours, stacked (default)", (1,)),
    ("crossfit", "plain NumPy", (1,)),
    ("effect", "ours", (1,)),
    ("effect", "ours, fitted", (1,)),
)
Row = dict[str, Any]


# ------------------------------------------------------------------ time
def race(
    runs: Mapping[str, Callable[[Inputs], Figures]], inputs: Inputs, repeats: int
) -> dict[str, float]:
    """Seconds of each run: one warm-up, then the minimum of ``repeats``, taking turns."""
    best = dict.fromkeys(runs, np.inf)
    for turn in range(repeats + 1):
        for name, run in runs.items():
            gc.collect()
            start = time.perf_counter()
            run(inputs)
            if turn:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def time_task(name: str, n: int, policies: int, repeats: int) -> list[Row]:
    """One row a run of the task, with its ratio to plain NumPy timed in turn with it."""
    task = TASKS[name]
    inputs = task.make(n, policies)
    difference = disagreement(task, inputs)
    seconds = race(task.runs, inputs, repeats)
    return [
        {
            "task": name,
            "n": n,
            "policies": policies,
            "run": run,
            "seconds": taken,
            "ratio_to_plain": taken / seconds["plain NumPy"],
            "repeats": repeats,
            **({"disagreement": difference} if run == "ours" else {}),
        }
        for run, taken in seconds.items()
    ]


def slopes(rows: Sequence[Row]) -> list[Row]:
    """Slope of log seconds in log n of every task and run timed at two sizes or more."""
    series: dict[tuple[str, int, str], list[tuple[int, float]]] = {}
    for row in rows:
        place = (row["task"], row["policies"], row["run"])
        series.setdefault(place, []).append((row["n"], row["seconds"]))
    out = []
    for (task, policies, run), points in series.items():
        if len({n for n, _ in points}) < 2:
            continue
        log_n, log_s = np.log(np.array(points, dtype=np.float64)).T
        slope = float(np.polyfit(log_n, log_s, 1)[0])
        out.append({"task": task, "policies": policies, "run": run, "slope": slope})
    return out


# ------------------------------------------------------------------ memory
def probe(name: str, run: str, n: int, policies: int) -> Row:
    """Peak memory of one run in this process, which should be fresh.

    A small run comes first, so that imports count as there before; the peak is reset once the
    inputs are built.
    """
    task = TASKS[name]
    task.runs[run](task.make(2000, policies))
    inputs = task.make(n, policies)
    before = reset_peak()
    task.runs[run](inputs)
    peak = peak_mb()
    return {
        "task": name,
        "n": n,
        "policies": policies,
        "run": run,
        "inputs_mb": round(sum(array.nbytes for array in inputs.values()) / 1e6, 1),
        "before_mb": round(before, 1),
        "peak_mb": round(peak, 1),
        "extra_mb": round(peak - before, 1),
    }


def probe_apart(name: str, run: str, n: int, policies: int) -> Row:
    """:func:`probe` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.estimators", "--probe", name, run]
    done = subprocess.run(
        [*command, str(n), str(policies)],
        cwd=HERE.parent, env=os.environ | ONE_THREAD, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    row: Row = json.loads(done.stdout)
    return row


# ------------------------------------------------------------------ peers
def time_peer(python: Path, peer: str, n: int, repeats: int) -> Row:
    """One peer on the effect task: seconds, peak memory and figures, or why there are none."""
    inputs = make_effect(n, 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "effect.npz"
        np.savez(file, **inputs)
        found = measure(python, peer, file, repeats, PEER_TIMEOUT)
    return {"peer": peer, "computes": PEERS[peer].computes, "n": n, **found}


def against_peers(peers: Sequence[Row], timings: Sequence[Row]) -> list[Row]:
    """The peers' rows beside the time of our run with the same propensities at the same n."""
    ours = {(r["run"], r["n"]): r["seconds"] for r in timings if r["task"] == "effect"}
    out = []
    for row in peers:
        how = PEERS[row["peer"]].ours
        run = "ours" if how == "known" else f"ours, {how}"
        mine = ours.get((run, row["n"]))
        beside: Row = {"our_run": run, "our_seconds": mine}
        if mine and "seconds" in row:
            beside["peer_over_ours"] = row["seconds"] / mine
        out.append(row | beside)
    return out


# ------------------------------------------------------------------ the claims
def claims(timings: Sequence[Row], memory: Sequence[Row], peers: Sequence[Row]) -> Iterator[Row]:
    """What the benchmark is to show: the figure at the largest n and whether it holds."""
    n = max(row["n"] for row in timings)

    def claim(text: str, figure: float, limit: float) -> Row:
        return {"claim": text, "n": n, "figure": figure, "limit": limit, "met": figure <= limit}

    def mb(task: str, column: str, policies: int) -> float:
        place = (task, "ours", n, policies)
        found = [r for r in memory if (r["task"], r["run"], r["n"], r["policies"]) == place]
        return float(found[0][column])

    seconds = {r["run"]: r["seconds"] for r in timings if (r["task"], r["n"]) == ("values", n)}
    ratio = seconds["ours"] / seconds["plain NumPy"]
    yield claim("values: seconds over plain NumPy", ratio, 2.0)
    yield claim("values: peak MB of the process, inputs and imports included",
                mb("values", "peak_mb", 1), 500.0)  # fmt: skip
    growth = mb("policies", "extra_mb", MANY) - mb("policies", "extra_mb", 1)
    yield claim(f"policies: extra MB at K = {MANY} beyond those at K = 1, to 5 % of the inputs",
                growth, 0.05 * mb("policies", "inputs_mb", MANY))  # fmt: skip
    yield claim(f"band: peak MB of the process, K = 5, {N_SIM} simulations",
                mb("band", "peak_mb", 5), 1000.0)  # fmt: skip
    for row in peers:
        if "peer_over_ours" in row and row["n"] == max(r["n"] for r in peers):
            name = f"effect: our seconds over those of {row['peer']}"
            yield claim(name, 1.0 / row["peer_over_ours"], 1.0) | {"n": row["n"]}


# ------------------------------------------------------------------ cells and the run
@dataclass(frozen=True)
class Cells:
    """Finished parts of a run, kept until the run is complete."""

    folder: Path

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        """The cell of this name from its file, or made now and kept."""
        file = self.folder / f"{name.replace(' ', '_').replace(',', '')}.json"
        if file.exists():
            return json.loads(file.read_text(encoding="utf-8"))
        made = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder.parent / ".gitignore").write_text("*\n", encoding="utf-8")
        write(file, made)
        return made

    def clear(self) -> None:
        """Forget all cells."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write(file: Path, content: Any) -> None:
    """Write JSON so that a reader never sees half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(file)


def sources_key() -> str:
    """Digest of the code that is timed: cells of other code are not resumed."""
    digest = hashlib.sha256()
    files = [*Path(causal_lm_opt.__file__).parent.rglob("*.py"), *HERE.glob("*.py")]
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def cpu_model() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", maxsplit=1)[1].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """The commit the figures were made at, with a mark when the tree had changes."""
    run = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True, text=True, cwd=HERE, check=False,
    )  # fmt: skip
    return run.stdout.strip() or "unknown"


def environment() -> Row:
    """Where the figures come from."""
    return {
        "commit": commit(),
        "version": causal_lm_opt.__version__,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "blas_threads": 1,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("numpy", "scipy", "scikit-learn", "pandas")},
        "seed": SEED,
    }


def measure_all(
    cells: Cells,
    *,
    sizes: Sequence[int],
    tasks: Sequence[str],
    repeats: int,
    python: Path | None,
) -> dict[str, list[Row]]:
    """All timings, memory probes and peers, from their cells where they are there."""
    timings: list[Row] = []
    memory: list[Row] = []
    peers: list[Row] = []
    turns = {n: max(3, repeats - 2) if n >= LARGE else max(3, repeats) for n in sizes}
    places = [(t, n, k) for t in tasks for n in sizes for k in TASKS[t].policies]
    for name, n, k in tqdm(places, desc="time", unit="cell"):
        if n * k > 10 * LARGE:
            continue  # K = 100 at the largest n is a matter of memory, probed below
        key = f"time-{name}-{n}-{k}-{turns[n]}"
        timings += cells.get(key, partial(time_task, name, n, k, turns[n]))
    places_peers = [(p, n) for n in sizes for p in PEERS] if python and "effect" in tasks else []
    for peer, n in tqdm(places_peers, desc="peers", unit="cell"):
        assert python is not None
        key = f"peer-{peer}-{n}-{turns[n]}"
        peers.append(cells.get(key, partial(time_peer, python, peer, n, turns[n])))
    probes = [(t, r, max(sizes), k) for t, r, ks in PROBES for k in ks if t in tasks]
    for name, run, n, k in tqdm(probes, desc="memory", unit="cell"):
        key = f"memory-{name}-{run}-{n}-{k}"
        memory.append(cells.get(key, partial(probe_apart, name, run, n, k)))
    return {
        "timings": timings,
        "memory": memory,
        "peers": against_peers(peers, timings),
        "slopes": slopes(timings),
    }


# ------------------------------------------------------------------ tables
def show(title: str, rows: Sequence[Row], columns: Mapping[str, str]) -> None:
    """Print rows as a table; ``columns`` maps a key to its format."""
    if not rows:
        return
    cells = [
        [format(row[c], f) if row.get(c) is not None else "-" for c, f in columns.items()]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    print(f"\n{title}")
    for line in [list(columns), *cells]:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))


def show_all(table: Mapping[str, Any]) -> None:
    """Print every table of a finished run."""
    show("Seconds, and ratio to plain NumPy", table["timings"],
         {"task": "", "policies": "d", "n": "d", "run": "", "seconds": ".4f",
          "ratio_to_plain": ".2f", "disagreement": ".0e"})  # fmt: skip
    show("Peers on the effect of a binary treatment", table["peers"],
         {"peer": "", "version": "", "n": "d", "seconds": ".3f", "peak_mb": ".0f",
          "our_run": "", "our_seconds": ".3f", "peer_over_ours": ".2f",
          "unavailable": ""})  # fmt: skip
    show("Memory in a fresh process, MB", table["memory"],
         {"task": "", "policies": "d", "n": "d", "run": "", "inputs_mb": ".0f",
          "before_mb": ".0f", "peak_mb": ".0f", "extra_mb": ".0f"})  # fmt: skip
    show("Slope of log seconds in log n", table["slopes"],
         {"task": "", "policies": "d", "run": "", "slope": ".2f"})  # fmt: skip
    show("Claims", table["claims"],
         {"claim": "", "n": "d", "figure": ".2f", "limit": "g", "met": ""})  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, peers if there")
    parser.add_argument("--sizes", type=int, nargs="+", help=f"numbers of rows, default {SIZES}")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--repeats", type=int, default=7, help="two fewer from a million rows on")
    parser.add_argument("--peers-env", type=Path, default=HERE.parent / ".bench-peers")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--json", type=Path, help="default benchmarks/results/estimators.json")
    parser.add_argument("--probe", nargs=4, metavar=("TASK", "RUN", "N", "K"),
                        help="print one task's memory in this process, as JSON")  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print its tables and write ``estimators.json``."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.probe:
        task, run, n, k = arguments.probe
        with threadpool_limits(1):
            print(json.dumps(probe(task, run, int(n), int(k))))
        return 0
    quick = arguments.quick
    sizes = arguments.sizes or list(QUICK_SIZES if quick else SIZES)
    if min(sizes) < 1000:
        parser.error(f"--sizes must be 1000 or more, got {min(sizes)}")
    file = arguments.json
    if file is None:  # a quick run does not overwrite the committed figures
        file = RESULTS / ("estimators-quick.json" if quick else "estimators.json")
    folder = arguments.peers_env
    ready = (folder / "installed.json").exists()
    python = None if arguments.no_peers or (quick and not ready) else prepare(folder)
    cells = Cells(RESULTS / ".estimators-cells" / sources_key())
    start = time.time()
    with threadpool_limits(1):
        found = measure_all(
            cells, sizes=sizes, tasks=arguments.tasks, python=python,
            repeats=3 if quick else arguments.repeats,
        )  # fmt: skip
    table: Row = environment() | {"quick": quick, "seconds": round(time.time() - start), **found}
    everything = set(arguments.tasks) == set(TASKS)
    table["claims"] = (
        list(claims(found["timings"], found["memory"], found["peers"])) if everything else []
    )
    write(file, table)
    cells.clear()
    show_all(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
