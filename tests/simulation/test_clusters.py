"""Studies computed by a Dask or a Ray cluster on this machine: the same bytes as without one.

Both are skipped where the package is not installed; nothing of causal_lm_opt needs them. Each runs
in a process of its own: clusters start threads and print, and Ray changes joblib's registry.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = """
import sys, warnings
import joblib
from causal_lm_opt import IPW, DoublyRobust
from causal_lm_opt.simulation import GaussianDesign, Study, confounded_log
from sklearn.linear_model import LinearRegression

study = Study(
    {"near": GaussianDesign("linear", shift=.3), "chosen": confounded_log(1.0)},
    {"Hajek": IPW(), "DR": DoublyRobust(LinearRegression(), inference="influence")},
    sizes=(60,), replications=6, seed=3,
)

def run(out, jobs):
    study.run(out, jobs=jobs, block=2, progress=False)

"""
SERIAL = """
if __name__ == "__main__":
    run(sys.argv[1], 1)
"""
DASK = """
if __name__ == "__main__":
    from dask.distributed import Client, LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
                      host="127.0.0.1") as cluster, Client(cluster):
        with joblib.parallel_config("dask"):
            run(sys.argv[1], None)
"""
RAY = """
if __name__ == "__main__":
    import ray
    from ray.util.joblib import register_ray
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    register_ray()
    with joblib.parallel_config("ray", n_jobs=2):
        run(sys.argv[1], None)
    ray.shutdown()
"""


def computed(folder: Path, ending: str) -> dict[str, bytes]:
    """Every file that a run in a fresh process writes."""
    folder.mkdir()
    script = folder / "study.py"
    script.write_text(STUDY + ending, encoding="utf-8")
    out = folder / "out"
    done = subprocess.run(
        [sys.executable, str(script), str(out)], capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return computed(tmp_path_factory.mktemp("alone") / "serial", SERIAL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "ending"),
    [
        pytest.param(
            package, ending, id=package,
            marks=pytest.mark.skipif(
                importlib.util.find_spec(package) is None, reason=f"{package} is not installed"
            ),
        )
        for package, ending in (("distributed", DASK), ("ray", RAY))
    ],
)  # fmt: skip
def test_a_cluster_writes_the_same_bytes(
    package: str, ending: str, alone: dict[str, bytes], tmp_path: Path
) -> None:
    assert "summary.csv" in alone
    assert computed(tmp_path / package, ending) == alone
