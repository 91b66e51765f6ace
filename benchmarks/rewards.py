"""Training time of the rewards beside bare torch loops of the same models.

``python -m benchmarks.rewards`` fits each reward on ``--pairs`` pairs of ``--width`` features for
``--epochs`` epochs (15,000 x 256 x 10), and trains the same network from the same weights on the
same batches with the same optimiser in a loop written by hand, turn by turn, ``--repeats`` times.
Both begin at NumPy arrays and end at the weights; the reward also checks its input. Ratios are of
the minima, of wall-clock and of the process's CPU time (the latter says more on a busy machine).
The two sets of rewards are compared, so that the times are of equal work.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from benchmarks.estimators import cpu_model
from causal_lm_opt.rewards import AdversarialReward, BradleyTerryReward, MultiHeadReward

Array = NDArray[Any]
Row = dict[str, Any]
LIMIT = 1.15  # what the loop may cost
KINDS: dict[str, Any] = {
    "BradleyTerryReward": BradleyTerryReward,
    "MultiHeadReward": MultiHeadReward,
    "AdversarialReward": AdversarialReward,
}


def make_pairs(n: int, width: int, seed: int) -> dict[str, Array]:
    """Pairs whose reward is linear in the features, with an objective."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, n, width)).astype(np.float32)
    won = (first - second) @ rng.normal(size=width) > 0
    return {
        "chosen": np.where(won[:, None], first, second),
        "rejected": np.where(won[:, None], second, first),
        "objective": rng.integers(0, 2, n),
    }


def make_model(name: str, settings: Row) -> Any:
    """The reward at the paper's widths, without held-out pairs: the bare loop has none either."""
    return KINDS[name](**settings, validation_fraction=0, device="cpu")


# ------------------------------------------------------------------ the bare loop
def bare(name: str, pairs: dict[str, Array], settings: Row) -> Array:
    """The same training by hand; rewards of the first texts after it, (k,)."""
    heads = name != "BradleyTerryReward"
    adversary = name == "AdversarialReward"
    latent = 512 if heads else 64
    seed = seed_of(make_model(name, settings))
    torch.manual_seed(seed)
    encoder = nn.Sequential(
        nn.Linear(pairs["chosen"].shape[1], 512), nn.GELU(), nn.Linear(512, 512), nn.GELU(),
        nn.Linear(512, latent),
    )  # fmt: skip
    head = nn.Linear(latent, 2 if heads else 1, bias=False)
    torch.manual_seed(seed + 1)
    discriminator = nn.Sequential(nn.Linear(latent, 512), nn.GELU(), nn.Linear(512, 1))
    modules = [encoder, head] + [discriminator] * adversary
    optimizer = torch.optim.AdamW(
        [p for module in modules for p in module.parameters()],
        lr=settings["learning_rate"], weight_decay=0.0, fused=True,
    )  # fmt: skip
    chosen, rejected = (torch.from_numpy(pairs[key]) for key in ("chosen", "rejected"))
    objective = torch.from_numpy(pairs["objective"])
    generator = torch.Generator().manual_seed(seed)
    for _ in range(settings["epochs"]):
        order = torch.randperm(len(chosen), generator=generator)
        for start in range(0, len(chosen), settings["batch_size"]):
            at = order[start : start + settings["batch_size"]]
            z = encoder(torch.cat((chosen[at], rejected[at])))
            first, second = head(z).chunk(2)
            gap = first - second
            margin = gap.gather(1, objective[at, None])[:, 0] if heads else gap[:, 0]
            loss = functional.softplus(-margin).mean()
            if adversary:
                wanted = objective[at].float().repeat(2)
                logit = discriminator(Reverse.apply(z))[:, 0]  # type: ignore[no-untyped-call]
                loss = loss + functional.binary_cross_entropy_with_logits(logit, wanted)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
    with torch.no_grad():
        rewards = head(encoder(chosen[:256]))
        own = rewards.gather(1, objective[:256, None]) if heads else rewards
    found: Array = own[:, 0].double().numpy()
    return found


class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: torch.Tensor) -> torch.Tensor:
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return -gradients[0]


def seed_of(model: Any) -> int:
    """The seed torch gets in a fit of the model."""
    model._check()
    return int(model._seed)


def ours(name: str, pairs: dict[str, Array], settings: Row) -> Array:
    """The reward's fit; rewards of the first texts after it, (k,)."""
    objective = pairs["objective"] if name != "BradleyTerryReward" else None
    model = make_model(name, settings)
    model.fit(pairs["chosen"], pairs["rejected"], objective=objective)
    some: Array = model.predict(
        pairs["chosen"][:256], None if objective is None else objective[:256]
    )
    return some


# ------------------------------------------------------------------ time
def clock(run: Callable[[], Array]) -> tuple[float, float, Array]:
    """Wall-clock and process CPU seconds of a run, and what it gave."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    found = run()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def race(name: str, pairs: dict[str, Array], settings: Row, repeats: int) -> Row:
    """Minima over the repeats of both, their ratio, and how far the results are apart."""
    best: dict[str, list[float]] = {"ours": [np.inf, np.inf], "bare": [np.inf, np.inf]}
    apart = 0.0
    for _ in range(repeats):
        wall, cpu, fitted = clock(lambda: ours(name, pairs, settings))
        best["ours"] = np.minimum(best["ours"], [wall, cpu]).tolist()
        wall, cpu, plain = clock(lambda: bare(name, pairs, settings))
        best["bare"] = np.minimum(best["bare"], [wall, cpu]).tolist()
        gap = (fitted - fitted[0]) - (plain - plain[0])
        apart = max(apart, float(np.abs(gap).max() / np.ptp(plain)))
    return {
        "model": name,
        "seconds": round(best["ours"][0], 3), "bare_seconds": round(best["bare"][0], 3),
        "cpu_seconds": round(best["ours"][1], 3), "bare_cpu_seconds": round(best["bare"][1], 3),
        "ratio": round(best["ours"][0] / best["bare"][0], 4),
        "cpu_ratio": round(best["ours"][1] / best["bare"][1], 4),
        "apart": apart, "repeats": repeats,
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Race all models, print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--models", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    pairs = make_pairs(given.pairs, given.width, given.seed)
    settings: Row = {
        "epochs": given.epochs, "batch_size": given.batch_size, "learning_rate": 1e-4,
        "random_state": given.seed,
    }  # fmt: skip
    warm = make_pairs(256, given.width, given.seed)
    for name in given.models:
        race(name, warm, settings | {"epochs": 1}, 1)
    rows = []
    for name in given.models:
        rows.append(race(name, pairs, settings, given.repeats))
        print(json.dumps(rows[-1]), flush=True)
    table = {
        "cpu": cpu_model(), "threads": given.threads, "python": platform.python_version(),
        "torch": version("torch"), "pairs": given.pairs, "width": given.width, **settings,
        "limit": LIMIT, "rows": rows,
    }  # fmt: skip
    if given.json is not None:
        given.json.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return int(any(row["apart"] > 0.05 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
