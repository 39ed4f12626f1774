"""A memory of vectors: which of them it keeps, and the nearest of them to others. PatchCore's, in memory that is bounded and said."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from invad.devices import full_precision

PROJECTED = 128  # dimensions in which distances decide what the memory keeps
STARTS = 10  # vectors that the first distances are measured from
BLOCK = 4096  # vectors that are compared at a time, on either side
CHOICE_BLOCK = 512  # vectors of whose distances one bound is kept while the memory is chosen
SPARE = 1.25  # times `most_vectors` are held before the surplus goes
SILENT_SECONDS = 5  # a choice that takes no longer shows no progress


def coreset(parts: Sequence[Tensor], count: int, rng: np.random.Generator, device: torch.device) -> Tensor:
    """Return `count` of the rows of `parts`, float32 (N, D) each, or all where there are no more, on `device`, where they are chosen."""
    total, dimensions = sum(map(len, parts)), parts[0].shape[1]
    if count >= total:  # there is nothing to choose
        return torch.cat(list(parts)).to(device)
    bound = dimensions**-0.5  # weights as torch's linear layers begin with
    weights = rng.uniform(-bound, bound, (dimensions, PROJECTED)).astype(np.float32)
    starts = rng.choice(total, min(STARTS, total), replace=False)
    with full_precision(device):
        projected = torch.cat([part @ torch.from_numpy(weights) for part in parts]).to(device)
        chosen = greedy_coreset(projected, starts, count)
    return _rows(parts, chosen).to(device)


def even_sample(parts: Iterable[Tensor], most: int, rng: np.random.Generator) -> tuple[Sequence[Tensor], int]:
    """Return all rows of `parts`, or `most` of them drawn evenly, in their order, and how many there were.

    Little more than `SPARE` times `most` are held.
    """
    kept: list[tuple[Tensor, np.ndarray]] = []
    limit, total = np.inf, 0  # of the keys; the rows with the smallest are drawn
    for rows in parts:
        total += len(rows)
        kept += _below(limit, [(rows, rng.random(len(rows)))])
        if sum(len(keys) for _, keys in kept) > SPARE * most:
            limit = _smallest(kept, most)
            kept = _below(limit, kept)
    if not kept:
        raise ValueError("no vectors to choose from")
    return [rows for rows, _ in _below(_smallest(kept, most), kept)], total


def _smallest(kept: Sequence[tuple[Tensor, np.ndarray]], count: int) -> float:
    """Return the largest of the `count` smallest keys; no limit where there are no more."""
    keys = np.concatenate([each for _, each in kept])
    return np.inf if len(keys) <= count else float(np.partition(keys, count - 1)[count - 1])


def _below(limit: float, kept: Sequence[tuple[Tensor, np.ndarray]]) -> list[tuple[Tensor, np.ndarray]]:
    """Return the rows whose keys are at most `limit`."""
    if limit == np.inf:
        return list(kept)
    return [(rows[torch.from_numpy(keys <= limit)], keys[keys <= limit]) for rows, keys in kept]


def _rows(parts: Sequence[Tensor], chosen: Tensor) -> Tensor:
    """Return the rows `chosen` of all parts together, without a copy of all."""
    rows = parts[0].new_empty(len(chosen), parts[0].shape[1])
    start = 0
    for part in parts:
        here = (chosen >= start) & (chosen < start + len(part))
        rows[here] = part[chosen[here] - start]
        start += len(part)
    return rows


def greedy_coreset(vectors: Tensor, starts: np.ndarray, count: int) -> Tensor:
    """Return the indices of `count` rows of `vectors`, float32 (N, D), each of which is the farthest from those before it, on the CPU.

    The first distance of a row is the mean of those to the rows `starts`, which are not chosen by themselves. Rows are looked at in blocks,
    and a block only when it may hold the farthest: distances never grow, so an old one is a bound. Beside `vectors`, the chosen rows, a few
    numbers for each row and `CHOICE_BLOCK` x `BLOCK` distances are held.
    """
    squares = vectors.square().sum(dim=1)

    def distances(rows: Tensor, squares_of_rows: Tensor, others: Tensor) -> Tensor:
        products = rows @ others.T
        return (squares_of_rows[:, None] + others.square().sum(dim=1) - 2 * products).clamp_min_(0).sqrt_()

    blocks = list(zip(vectors.split(CHOICE_BLOCK), squares.split(CHOICE_BLOCK), strict=True))
    first = vectors[torch.from_numpy(starts).to(vectors.device)]
    nearest = [distances(*block, first).mean(dim=1) for block in blocks]
    bounds, seen = torch.stack([each.max() for each in nearest]).cpu(), [0] * len(blocks)
    chosen, picked = torch.empty(count, dtype=torch.int64), vectors.new_empty(count, vectors.shape[1])
    for index in tqdm(range(count), desc="coreset", unit="vector", mininterval=1, delay=SILENT_SECONDS):
        while seen[block := int(bounds.argmax())] < index:
            for others in picked[seen[block] : index].split(BLOCK):
                closer = distances(*blocks[block], others).amin(dim=1)
                torch.minimum(nearest[block], closer, out=nearest[block])
            bounds[block], seen[block] = nearest[block].max(), index
        chosen[index] = block * CHOICE_BLOCK + int(nearest[block].argmax())
        picked[index] = vectors[chosen[index]]
    return chosen


def nearest_vectors(queries: Tensor, memory: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return squared distances, float32 (Q, count), nearest first, and indices of the nearest rows of `memory`.

    `BLOCK` rows of either are compared at a time; in a graph that is exported all queries at once, since their number is not known. An
    empty memory, as that of a model that is not fitted, is at distance 0.
    """
    if not len(memory):
        none = queries.new_zeros(queries.shape[0], count)
        return none, none.long()
    blocks = [queries] if torch.compiler.is_exporting() else queries.split(BLOCK)
    with full_precision(queries.device):  # differences of large squares would have no digit left
        found = [_nearest(block, memory, count) for block in blocks]
    return torch.cat([values for values, _ in found]), torch.cat([indices for _, indices in found])


def _nearest(queries: Tensor, memory: Tensor, count: int) -> tuple[Tensor, Tensor]:
    parts = []
    for start in range(0, len(memory), BLOCK):
        block = memory[start : start + BLOCK].to(queries.dtype)
        distances = torch.addmm(block.square().sum(dim=1), queries, block.T, alpha=-2)  # less the queries' own squares
        values, indices = distances.topk(min(count, len(block)), dim=1, largest=False)
        parts.append((values, indices + start))
    values, indices = (torch.cat(column, dim=1) for column in zip(*parts, strict=True))
    values, order = values.topk(min(count, values.shape[1]), dim=1, largest=False)
    return (values + queries.square().sum(dim=1, keepdim=True)).clamp_min(0), indices.gather(1, order)
