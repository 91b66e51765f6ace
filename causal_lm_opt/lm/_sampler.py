"""Rows in full global batches; what an epoch leaves over begins the next one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from causal_lm_opt.exceptions import EstimationWarning

__all__ = ["FullBatchSampler"]


class FullBatchSampler(Sampler[int]):
    """An endless stream of permutations of the rows, read in batches that are always full.

    A last batch that is smaller, or filled up with rows seen twice, makes the result depend on the
    number of processes and on accumulation. Here the rows an epoch leaves over are the first of the
    next one, so that every row is seen as often. The stream depends on the seed and the position
    alone: a resumed run reads on where it stopped.

    Parameters
    ----------
    sizes : sequence of int
        Rows of each sample; each batch holds its share of every sample, nearly.
    batch : int
        Rows of a global batch: per device, times accumulation, times processes.
    seed : int
    epoch : callable
        Tells which epoch begins.
    passes : int, default 1
        Times that an epoch reads all rows.

    Examples
    --------
    >>> sampler = FullBatchSampler([5], 2, seed=0, epoch=lambda: 0)
    >>> len(sampler), len(set(sampler))
    (4, 4)
    """

    def __init__(
        self, sizes: Sequence[int], batch: int, *, seed: int, epoch: Callable[[], int],
        passes: int = 1,
    ) -> None:  # fmt: skip
        self.sizes, self.batch, self.seed, self.epoch = list(sizes), batch, seed, epoch
        self.rows = sum(self.sizes)
        if batch > passes * self.rows:
            warnings.warn(
                f"a global batch has {batch} rows and there are {self.rows}: rows are repeated "
                "within a batch. Lower per_device_train_batch_size or accumulation.",
                EstimationWarning, stacklevel=2,
            )  # fmt: skip
        self.steps = max(1, passes * self.rows // batch)

    def __len__(self) -> int:
        return self.steps * self.batch

    def __iter__(self) -> Iterator[int]:
        start = self.epoch() * len(self)
        at, order = -1, np.empty(0, dtype=np.intp)
        for k in range(start, start + len(self)):
            if k // self.rows != at:
                at = k // self.rows
                order = self.order(at)
            yield int(order[k % self.rows])

    def order(self, number: int) -> NDArray[np.intp]:
        """The stream's permutation of this number; samples are spread evenly over it."""
        rng = np.random.default_rng([self.seed, number])
        places, offset = [], 0
        found = []
        for size in self.sizes:
            found.append(offset + rng.permutation(size))
            places.append((np.arange(size) + rng.random()) / max(size, 1))
            offset += size
        return np.concatenate(found)[np.argsort(np.concatenate(places), kind="stable")]
