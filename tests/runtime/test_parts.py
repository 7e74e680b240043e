"""Parts: one contract for tensors, loaders and streams in every structure of inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from cnet_aihw.runtime import device_parts
from cnet_aihw.runtime.device_parts import PlacedPart, placed
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.inputs import call, channels_last, inputs_on, named_tensors
from cnet_aihw.runtime.parts import LoaderPart, Part, TensorPart, as_part, gathered

CPU = torch.device("cpu")
X = torch.randn(23, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(23)


class Pairs(Dataset):
    """Samples with an index, in a structure; counts how many were read."""

    def __init__(self, structure: Callable[[Tensor], Any]) -> None:
        self.structure, self.read = structure, 0

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        self.read += 1
        return self.structure(X[index]), Y[index]


class Stream(IterableDataset):
    """Samples without an index."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(zip(X, Y, strict=True))


def same(x: Tensor) -> Tensor:
    return x


def pair(x: Tensor) -> tuple[Tensor, Tensor]:
    return x, 2 * x


def named(x: Tensor) -> dict[str, Tensor]:
    return {"a": x, "b": 2 * x}


PARTS: dict[str, Callable[[], Part]] = {
    "tensors": lambda: TensorPart(X, Y),
    "tuple of tensors": lambda: TensorPart(pair(X), Y),
    "mapping of tensors": lambda: TensorPart(named(X), Y),
    "loader": lambda: LoaderPart(DataLoader(Pairs(same), batch_size=4, shuffle=True)),
    "loader of tuples": lambda: LoaderPart(DataLoader(Pairs(pair), batch_size=4)),
    "loader of mappings": lambda: LoaderPart(DataLoader(Pairs(named), batch_size=4)),
    "loader with workers": lambda: LoaderPart(
        DataLoader(TensorDataset(X, Y), batch_size=4, num_workers=1)
    ),
    "stream": lambda: LoaderPart(DataLoader(Stream(), batch_size=4)),
    "list of batches": lambda: LoaderPart([(X[:5], Y[:5]), (X[5:20], Y[5:20]), (X[20:], Y[20:])]),
    "placed": lambda: PlacedPart(LoaderPart(DataLoader(Pairs(same), batch_size=4)), CPU, True),
}
each_part = pytest.mark.parametrize("make", PARTS.values(), ids=PARTS)
STREAMS = ("stream", "list of batches")


def joined(batches: Any) -> tuple[dict[str, Tensor], Tensor]:
    batches = list(batches)
    names = named_tensors(batches[0][0])
    tensors = {n: torch.cat([named_tensors(x)[n] for x, _ in batches]) for n in names}
    return tensors, torch.cat([y for _, y in batches])


def check_rows(tensors: dict[str, Tensor], y: Tensor) -> None:
    """The inputs belong to the targets, whatever the order."""
    first, *rest = tensors.values()
    assert torch.equal(first, X[y])
    assert all(torch.equal(other, 2 * first) for other in rest)


@each_part
def test_batches_hold_each_sample_once_in_order(make: Callable[[], Part]) -> None:
    part = make()
    assert len(part) == 23
    for size in (1, 4, 6, 23, 100):
        for _ in range(2):
            batches = list(part.batches(size))
            sizes = [len(y) for _, y in batches]
            assert sizes == [size] * (23 // size) + [23 % size] * (23 % size > 0)
            tensors, y = joined(batches)
            assert torch.equal(y, Y)
            check_rows(tensors, y)


@pytest.mark.parametrize("name", PARTS)
def test_shuffled_batches_belong_to_the_seed_and_can_be_resumed(name: str) -> None:
    part = PARTS[name]()
    state = torch.get_rng_state()
    whole = [y.tolist() for _, y in part.shuffled(4, seed=3)]
    tensors, y = joined(part.shuffled(4, seed=3))
    check_rows(tensors, y)
    assert sorted(y.tolist()) == Y.tolist()
    for start in (1, 4, 6):
        assert [y.tolist() for _, y in part.shuffled(4, 3, start)] == whole[start:]
    assert torch.equal(torch.get_rng_state(), state)  # torch's own generator is left alone
    if name in STREAMS:
        assert torch.equal(y, Y)  # a stream has an order of its own
    else:
        assert [y.tolist() for _, y in TensorPart(X, Y).shuffled(4, 3)] == whole
        assert [y.tolist() for _, y in part.shuffled(4, seed=4)] != whole


@each_part
def test_the_first_samples_are_a_part(make: Callable[[], Part]) -> None:
    part = make()
    for count in (1, 7, 23, 50):
        some = part.first(count)
        tensors, y = joined(some.batches(5))
        assert torch.equal(y, Y[:count]) and len(some) == min(count, 23)
        check_rows(tensors, y)
    assert len(part.first(None)) == 23
    held = gathered(part, 9)
    assert isinstance(held, TensorPart) and len(held) == 9
    check_rows(named_tensors(held.x), held.y)


@each_part
def test_a_fingerprint_is_that_of_the_content(make: Callable[[], Part]) -> None:
    assert make().fingerprint == make().fingerprint
    assert make().first(22).fingerprint != make().fingerprint


def test_a_loaders_fingerprint_does_not_depend_on_its_batches_and_is_read_once() -> None:
    data = Pairs(same)
    part = LoaderPart(DataLoader(data, batch_size=4))
    first = part.fingerprint
    assert data.read == 23
    assert part.fingerprint == first and data.read == 23
    assert LoaderPart(DataLoader(Pairs(same), batch_size=9, shuffle=True)).fingerprint == first
    assert LoaderPart(DataLoader(Stream(), batch_size=3)).fingerprint == first
    given = LoaderPart(DataLoader(data, batch_size=4), fingerprint="mine")
    assert given.fingerprint == "mine" and data.read == 23
    assert given.first(5).fingerprint != "mine" and data.read == 23


def test_a_resumed_epoch_reads_only_what_is_left() -> None:
    data = Pairs(same)
    list(LoaderPart(DataLoader(data, batch_size=4)).shuffled(4, 3, start=4))
    assert data.read == 23 - 16


def test_mappings_that_hold_the_targets() -> None:
    batches = [{"ids": X[:9], "labels": Y[:9]}, {"ids": X[9:], "labels": Y[9:]}]
    ((inputs, y),) = LoaderPart(batches).batches(50)
    assert list(inputs) == ["ids"] and torch.equal(y, Y)
    with pytest.raises(CnetError) as error:
        next(LoaderPart(batches, targets="y").batches(5))
    assert (error.value.key, error.value.value) == ("loader", "dict")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ((X, Y), TensorPart),
        (SimpleNamespace(x=X, y=Y), TensorPart),
        (DataLoader(TensorDataset(X, Y)), LoaderPart),
        (TensorDataset(X, Y), LoaderPart),
    ],
)
def test_data_of_every_kind_becomes_a_part(data: Any, kind: type) -> None:
    part = as_part(data)
    assert isinstance(part, kind) and as_part(part) is part
    assert torch.equal(joined(part.batches(5))[1], Y)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: as_part([X, Y]), "data"),
        (lambda: as_part("mnist"), "data"),
        (lambda: TensorPart(X, Y[:5]), "x"),
        (lambda: TensorPart({"a": X, "b": X[:5]}, Y), "b"),
        (lambda: TensorPart((X, X[:0]), Y), "x1"),
        (lambda: TensorPart(X[:0], Y[:0]), "x"),
        (lambda: gathered(LoaderPart([])), "data"),
    ],
)
def test_mistakes(make: Callable[[], object], key: str) -> None:
    with pytest.raises(CnetError) as error:
        make()
    assert error.value.key == key


def test_a_whole_data_set_in_place_of_a_part_has_its_fix() -> None:
    whole = SimpleNamespace(train=(X, Y), val=(X, Y), test=(X, Y))
    with pytest.raises(CnetError) as error:
        as_part(whole)
    assert error.value.fix is not None and "test" in error.value.fix


def test_networks_are_called_in_the_structure_of_the_inputs() -> None:
    def model(a: Tensor, b: Tensor | None = None) -> Tensor:
        return a if b is None else a + b

    assert torch.equal(call(model, X), X)
    assert torch.equal(call(model, pair(X)), 3 * X)
    assert torch.equal(call(model, named(X)), 3 * X)


def test_images_have_their_channels_last_on_a_cpu() -> None:
    for channels in (1, 3):
        images = torch.randn(5, channels, 4, 6)
        moved = inputs_on(CPU, images)
        assert moved.stride() == (24 * channels, 1, 6 * channels, channels)
        assert torch.equal(moved, images)
        assert channels_last(moved) is moved
        assert inputs_on(CPU, images, images_last=False) is images
    assert inputs_on(CPU, X) is X


def test_a_part_on_a_cpu_costs_no_memory_where_it_lies_right_already() -> None:
    part = TensorPart(X, Y)
    assert placed(part, CPU) is part
    images = TensorPart(torch.randn(23, 3, 4, 4), Y)
    assert placed(images, CPU, images_last=False) is images
    laid_out = placed(images, CPU)
    assert isinstance(laid_out, TensorPart) and placed(laid_out, CPU) is laid_out
    assert laid_out.fingerprint == images.fingerprint


def test_a_device_holds_all_of_a_part_only_where_it_fits_and_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = TensorPart(torch.randn(23, 3, 4, 4), Y)
    size = images.x.nbytes + Y.nbytes
    for free, resident in ((2 * size, True), (2 * size - 1, False)):
        monkeypatch.setattr(device_parts, "free_bytes", lambda device, free=free: free)
        found = placed(images, CPU)
        assert isinstance(found, TensorPart) is resident
        (one,) = found.batches(50)
        assert torch.equal(one[0], images.x) and one[0].stride(1) == 1
    assert isinstance(placed(images, CPU, resident=True), TensorPart)
    assert isinstance(placed(images, CPU, resident=False), PlacedPart)
    loader = LoaderPart(DataLoader(TensorDataset(images.x, Y)))
    assert isinstance(placed(loader, CPU), PlacedPart)
    assert isinstance(placed(loader, CPU, resident=True), TensorPart)


def test_arrays_may_run_backwards_and_in_another_byte_order() -> None:
    x, y = np.arange(12.0, dtype=np.float32).reshape(6, 2), np.arange(6)
    part = TensorPart(x[::-1], y[::-1].astype(">i8"))
    assert torch.equal(part.x, torch.arange(12.0).reshape(6, 2).flip(0))
    assert part.y.tolist() == [5, 4, 3, 2, 1, 0]
