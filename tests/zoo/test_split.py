"""The split: disjoint, complete, stratified, seeded; and the sentences where it is not possible."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo.split import mixing_order, stratified_order, stratified_split


def labels_of(counts: list[int]) -> torch.Tensor:
    return torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(4, 40), min_size=2, max_size=6),
    seed=st.integers(0, 2**40),
)
def test_split_is_disjoint_and_complete_and_holds_every_class(counts: list[int], seed: int) -> None:
    y = labels_of(counts)
    test, val, train = stratified_split(y, {"a": 0.25, "b": 0.25}, seed, len(counts))
    rows = torch.cat([test, val, train])
    assert sorted(rows.tolist()) == list(range(len(y)))
    assert len(test) == len(val) == round(0.25 * len(y))
    for part in (test, val, train):
        assert set(y[part].tolist()) == set(range(len(counts)))


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(1, 50), min_size=2, max_size=6), seed=st.integers(0, 10**6))
def test_every_beginning_of_the_order_holds_the_classes_evenly(
    counts: list[int], seed: int
) -> None:
    y = labels_of(counts)
    order = stratified_order(y, torch.Generator().manual_seed(seed))
    assert sorted(order.tolist()) == list(range(len(y)))
    for n in range(len(counts), len(y) + 1):
        held = torch.bincount(y[order[:n]], minlength=len(counts))
        fair = n * torch.tensor(counts) / len(y)
        assert held.min() >= 1
        assert (held - fair).abs().max() <= len(counts)


@pytest.mark.parametrize(
    "labels",
    [[0] * 9 + [1] * 9 + [2] * 9, [2] * 9 + [0] * 9 + [1] * 9, ([0] * 5 + [1] * 5 + [2] * 5) * 4],
)
def test_classes_that_lie_in_blocks_are_mixed(labels: list[int]) -> None:
    y = torch.tensor(labels)
    order = mixing_order(y, 3)
    assert order is not None and sorted(order.tolist()) == list(range(len(labels)))
    assert sorted(y[order][:3].tolist()) == [0, 1, 2]
    assert torch.equal(order, mixing_order(y, 3))


@pytest.mark.parametrize("labels", [[], [1], [1] * 9, [0, 1, 2] * 9, [0] * 8 + [0, 1, 0, 0]])
def test_rows_that_are_mixed_or_of_one_class_stay_as_they_are(labels: list[int]) -> None:
    assert mixing_order(torch.tensor(labels, dtype=torch.int64), 0) is None
    drawn = torch.randint(0, 4, (200,), generator=torch.Generator().manual_seed(0))
    assert mixing_order(drawn, 0) is None


def test_balanced_classes_are_cut_exactly() -> None:
    y = labels_of([60] * 5)
    val, train = stratified_split(y, {"val_size": 50}, 3, 5)
    assert torch.bincount(y[val]).tolist() == [10] * 5
    assert torch.bincount(y[train]).tolist() == [50] * 5
    assert torch.bincount(y[train[:25]]).tolist() == [5] * 5


def test_the_seed_decides_the_split_and_the_global_generator_does_not() -> None:
    y = labels_of([40, 40])
    torch.manual_seed(1)
    one = stratified_split(y, {"val_size": 20}, 7, 2)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    same = stratified_split(y, {"val_size": 20}, 7, 2)
    assert torch.equal(before, torch.get_rng_state())
    other = stratified_split(y, {"val_size": 20}, 8, 2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert set(one[0].tolist()) != set(other[0].tolist())


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "val_size"),
        (-5, "val_size"),
        (0.0, "val_size"),
        (1.0, "val_size"),
        (7.5, "val_size"),
        (float("nan"), "val_size"),
        (True, "val_size"),
        ("10", "val_size"),
        (3, "val_size"),
        (0.05, "val_size"),
        (37, "val_size"),
        (40, "val_size"),
        (5000, "val_size"),
        (0.95, "val_size"),
    ],
)
def test_impossible_sizes(size: float, message: str) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == message):
        stratified_split(labels_of([10] * 4), {"val_size": size}, 0, 4)


def test_a_class_too_small_for_two_parts_is_named() -> None:
    y = labels_of([20, 1])
    with pytest.raises(CnetError, check=lambda e: e.key == "val_size"):
        stratified_split(y, {"val_size": 4}, 0, 2, ["cat", "dog"])


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_a_seed_is_a_whole_number(seed: int) -> None:
    with pytest.raises(CnetError, check=lambda e: e.key == "split_seed"):
        stratified_split(labels_of([9, 9]), {"val_size": 4}, seed, 2)
