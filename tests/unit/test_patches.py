"""PatchCore and SimpleNet by hand: what a memory keeps and how much is held for it, distances in blocks, scores, recipes."""

import numpy as np
import pytest
import torch

from invad.config import PatchCoreConfig, ScoreConfig, SimpleNetConfig
from invad.features.batches import Batch
from invad.features.encoder import EncoderOutput
from invad.methods import coreset, patchcore
from invad.methods.coreset import greedy_coreset, nearest_vectors
from invad.methods.patchcore import PatchCore, reweighted_scores
from invad.methods.simplenet import SimpleNet

OUTPUT = EncoderOutput("toy", (4, 8, 12), 32)


def test_the_paper_s_score_is_less_where_the_nearest_vector_has_near_neighbours(monkeypatch):
    monkeypatch.setattr(patchcore, "REWEIGHTED_OVER", 3)
    memory = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [100.0, 0.0]])
    # Of the second image the second location is the farther one.
    vectors = torch.tensor([[[0.0, -2.0], [0.0, 0.0]], [[1.0, 0.0], [100.0, 7.0]]])
    squares, nearest = (x[:, 0].unflatten(0, (2, 2)) for x in nearest_vectors(vectors.flatten(0, 1), memory, 1))
    assert squares.tolist() == [[4, 0], [0, 49]]
    first, second = reweighted_scores(vectors, squares, nearest, memory).tolist()
    lengths = [2, 5**0.5, 3]  # of (0, -2) to (0, 0), its nearest, and to the two others around that
    assert first == pytest.approx((1 - np.exp(2) / np.exp(lengths).sum()) * 2, rel=1e-6)
    # Of (100, 7) the nearest is 7 away, the others around that more than 99: the softmax is that of the farther ones.
    assert second == pytest.approx(7, rel=1e-6)


def test_the_paper_s_score_is_a_choice(monkeypatch):
    torch.manual_seed(0)
    batch = Batch((torch.randn(2, 8, 4, 4), torch.randn(2, 12, 2, 2)))
    plain, paper = (PatchCore(OUTPUT, PatchCoreConfig(dimensions=6, reweighted=on)) for on in (False, True))
    plain.memory = paper.memory = torch.randn(20, 6)
    one, two = (method.predict(batch, ScoreConfig()) for method in (plain, paper))
    assert torch.equal(one.maps, two.maps)
    assert torch.equal(one.scores, one.maps.amax((1, 2)))
    assert (two.scores < one.scores.sqrt()).all()
    assert (two.scores > one.scores.sqrt() * (1 - 1 / 9) - 1e-6).all()  # the nearest has the least of nine shares


def test_distances_in_blocks_are_those_at_once(monkeypatch):
    torch.manual_seed(0)
    queries, memory = torch.randn(50, 3), torch.randn(37, 3)
    expected, order = torch.cdist(queries, memory).square().sort(dim=1)
    for block in (5, 16, 100):
        monkeypatch.setattr(coreset, "BLOCK", block)
        distances, nearest = nearest_vectors(queries, memory, 6)
        torch.testing.assert_close(distances, expected[:, :6], rtol=1e-4, atol=1e-5)
        assert torch.equal(nearest, order[:, :6])
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(nearest_vectors(queries, memory, 6)[0], distances)


def test_each_vector_of_a_coreset_is_the_farthest_from_those_before():
    line = torch.tensor([[0.0], [1.0], [2.0], [6.0], [10.0]])
    assert greedy_coreset(line, np.array([0]), 4).tolist() == [4, 3, 2, 1]  # 10 from 0, then the middle ones, 0 last
    assert greedy_coreset(line, np.array([4, 0]), 2).tolist() == [0, 3]  # the mean of both is 5 for all, and stays


@pytest.mark.parametrize(("rows", "block"), [(3, 4), (10, 2), (100, 1000)])
def test_a_coreset_chosen_in_blocks_is_that_of_the_definition(monkeypatch, rows, block):
    monkeypatch.setattr(coreset, "CHOICE_BLOCK", rows)
    monkeypatch.setattr(coreset, "BLOCK", block)
    vectors = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    between = torch.cdist(vectors, vectors)
    nearest, expected = between[[5, 6]].mean(dim=0), []
    for _ in range(40):
        expected.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, between[expected[-1]])
    assert greedy_coreset(vectors, np.array([5, 6]), 40).tolist() == expected


def test_the_sample_is_even_in_order_the_same_in_any_batches_and_bounded(monkeypatch):
    below, held = coreset._below, []

    def counted(limit, kept):
        held.append(sum(len(keys) for _, keys in kept))
        return below(limit, kept)

    monkeypatch.setattr(coreset, "_below", counted)
    rows = torch.arange(1000.0).unsqueeze(1)
    one, two = (
        torch.cat(list(coreset.even_sample(rows.split(size), 64, np.random.default_rng(0))[0])).flatten()
        for size in (7, 50)
    )
    assert torch.equal(one, two)
    assert len(one) == 64
    assert (one.diff() > 0).all()
    assert 400 < one.mean() < 600
    assert max(held) <= 1.25 * 64 + 50
    few, total = coreset.even_sample(rows[:50].split(20), 64, np.random.default_rng(0))
    assert total == 50
    assert torch.equal(torch.cat(list(few)), rows[:50])
    with pytest.raises(ValueError, match="no vectors"):
        coreset.even_sample([], 64, np.random.default_rng(0))


def test_the_memory_is_rows_of_all_parts_in_the_order_of_the_choice():
    rows = torch.arange(20.0).unflatten(0, (10, 2))
    chosen = torch.tensor([7, 0, 9, 3])
    assert torch.equal(coreset._rows(rows.split(4), chosen), rows[chosen])


@pytest.mark.parametrize(("recipe", "clip", "bias"), [("paper", float("inf"), (0.01, 1e-5)), ("re-run", 5.0, (0, 0))])
def test_the_recipes_of_simplenet(recipe, clip, bias):
    method = SimpleNet(OUTPUT, SimpleNetConfig(dimensions=6, hidden=4, recipe=recipe))
    (phase,) = method.phases()
    for optimisation, weights, others in zip(phase.optimisations(), (0.01, 1e-5), bias, strict=True):
        assert optimisation.clip == clip
        decays = [
            (p.ndim, each["weight_decay"]) for each in optimisation.optimizer.param_groups for p in each["params"]
        ]
        assert set(decays) == {(2, weights), (1, others)}
