"""Parts of the data: streams of labelled batches with a length and a fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset
from torch.utils.data.sampler import RandomSampler, SequentialSampler

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.fingerprint import tensors_fingerprint
from cnet_aihw.runtime.inputs import Batch, Inputs, from_numpy, joined, named_tensors, select
from cnet_aihw.runtime.inputs import call as call
from cnet_aihw.runtime.inputs import map_tensors as map_tensors

_HASHED = 250  # samples a time, for the fingerprint of a stream


class Part(Protocol):
    """A part of a data set: re-iterable batches, always the same ones in the same order."""

    def __len__(self) -> int:
        """Return the number of samples."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the content, or of what determines it."""

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield inputs and targets in order, wherever they lie (see ``device_parts.placed``)."""

    def shuffled(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch in an order that belongs to a seed.

        Args:
            batch_size: samples a batch; the last one may have fewer.
            seed: seed of the order.
            start: number of the first batch that is wanted, for a resumed epoch.
        """

    def first(self, count: int | None) -> Part:
        """Return the part of the first samples; None: all."""


class TensorPart:
    """Samples in memory.

    Args:
        x: inputs: a tensor [N, ...], or a tuple or mapping of them; also as numpy arrays.
        y: targets, [N, ...].

    Raises:
        CnetError: if there are no samples, or not one target per sample, or one of both is not a
            tensor.
    """

    def __init__(self, x: Any, y: Any) -> None:
        self.x: Inputs = from_numpy(x)
        self.y: Tensor = from_numpy(y)
        for name, value, good in (
            ("x", x, bool(named_tensors(self.x)) and not isinstance(x, list)),
            ("y", y, isinstance(self.y, Tensor)),
        ):
            if not good:
                found = type(value).__name__
                if isinstance(value, np.ndarray):
                    found = f"an array of {value.dtype}"
                raise CnetError(
                    f"{name} of the data is {found}; expected a tensor or array of numbers"
                    f"{', or a tuple or mapping of such' if name == 'x' else ''}.",
                    key=name,
                    value=found,
                    expected="a tensor or array of numbers",
                )
        tensors = {**named_tensors(self.x), "y": self.y}
        for name, tensor in tensors.items():
            if tensor.layout != torch.strided:
                raise bad_value(name, str(tensor.layout), "a dense tensor", "give x.to_dense()")
            if tensor.ndim == 0:
                raise bad_value(name, f"one number, {tensor}", "one for each sample, [N, ...]")
        for name, tensor in tensors.items():
            length = len(tensor)
            if length == 0 or length != len(y):
                raise CnetError(
                    f"{name} has {length} samples and there are {len(y)} targets; expected as many "
                    "of both, at least one.",
                    key=name,
                    value=length,
                    expected=len(y),
                )
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of names, shapes, types and content; computed once."""
        if self._fingerprint is None:
            self._fingerprint = tensors_fingerprint({**named_tensors(self.x), "y": self.y})
        return self._fingerprint

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield views of inputs and targets in order."""
        for start in range(0, len(self), batch_size):
            chosen = slice(start, start + batch_size)
            yield select(self.x, chosen), self.y[chosen]

    def shuffled(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield copies of inputs and targets in the order of a seed."""
        order = _order(len(self), seed).to(self.y.device)
        for begin in range(start * batch_size, len(self), batch_size):
            chosen = order[begin : begin + batch_size]
            yield select(self.x, chosen), self.y[chosen]

    def first(self, count: int | None) -> TensorPart:
        """Return a view of the first samples."""
        return self if count is None else TensorPart(select(self.x, slice(count)), self.y[:count])


class LoaderPart:
    """Samples of a torch ``DataLoader``, or of any other iterable that can be gone through again.

    A loader over a data set with indices is opened again for each pass, with its workers, collate
    function and memory pinning, but with the batch size asked for, and either in order or in an
    order of our own that belongs to a seed: the same as that of :class:`TensorPart`, bit for bit,
    so that a resumed epoch skips samples without reading them. Any other iterable (an
    ``IterableDataset``, a loader with a sampler of its own, WebDataset) comes in its own order,
    which must be the same each time; its batches are cut again to the size asked for, and a resumed
    epoch reads and drops those that are done.

    Random changes of samples belong into a data set's ``augment``, not into the loader, because a
    part gives the same samples each time.

    Args:
        loader: yields pairs (inputs, targets), or mappings that hold the targets.
        fingerprint: SHA-256 (hex), or any text, that stands for the content; None: computed once,
            when it is asked for, in a pass over all samples.
        targets: name of the targets in mappings; the rest of a mapping is the inputs.
    """

    def __init__(
        self,
        loader: Iterable[Any],
        fingerprint: str | None = None,
        targets: str = "labels",
    ) -> None:
        self.loader, self.targets = loader, targets
        self._fingerprint = fingerprint
        self._dataset = _indexed(loader)
        self._length: int | None = None

    def __len__(self) -> int:
        if self._length is None:
            if self._dataset is not None:
                self._length = len(self._dataset)  # type: ignore[arg-type]
            else:
                self._length = sum(len(targets) for _, targets in self._stream())
        return self._length

    @property
    def fingerprint(self) -> str:
        """The one given, or SHA-256 (hex) of all samples in order; computed once."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for inputs, targets in self.batches(_HASHED):
                tensors = {**named_tensors(inputs), "y": targets}
                digest.update(tensors_fingerprint(tensors).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield batches of the size asked for, in order."""
        if self._dataset is None:
            return _cut(self._stream(), batch_size)
        return map(self._pair, self._opened(range(len(self)), batch_size, 0))

    def shuffled(self, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield batches of the size asked for, in the order of a seed or the stream's own."""
        if self._dataset is None:
            for number, batch in enumerate(self.batches(batch_size)):
                if number >= start:
                    yield batch
            return
        order = _order(len(self), seed).tolist()[start * batch_size :]
        yield from map(self._pair, self._opened(order, batch_size, seed))

    def first(self, count: int | None) -> Part:
        """Return the first samples; those of a stream in memory."""
        if count is None or (self._length is not None and count >= self._length):
            return self
        if self._dataset is None:
            return gathered(self, count)
        subset: Dataset[Any] = Subset(self._dataset, range(min(count, len(self))))
        fingerprint = None if self._fingerprint is None else f"{self._fingerprint}[:{count}]"
        return LoaderPart(self._like(subset), fingerprint, self.targets)

    def _stream(self) -> Iterator[Batch]:
        with torch.random.fork_rng(devices=[]):  # a loader draws a seed for its workers
            batches = iter(self.loader)
        return map(self._pair, batches)

    def _pair(self, batch: Any) -> Batch:
        if isinstance(batch, Mapping) and self.targets in batch:
            return {k: v for k, v in batch.items() if k != self.targets}, batch[self.targets]
        if isinstance(batch, tuple | list) and len(batch) == 2 and isinstance(batch[1], Tensor):
            inputs, targets = batch
            return (tuple(inputs) if isinstance(inputs, list) else inputs), targets
        raise CnetError(
            f"a batch of the loader is {type(batch).__name__}; expected (inputs, targets), or a "
            f"mapping that holds the targets under {self.targets!r}.",
            key="loader",
            value=type(batch).__name__,
            expected="(inputs, targets)",
        )

    def _opened(self, order: Sequence[int], batch_size: int, seed: int) -> Iterable[Any]:
        assert self._dataset is not None
        return self._like(self._dataset, batch_size=batch_size, sampler=order, seed=seed)

    def _like(self, dataset: Dataset[Any], seed: int = 0, **changes: Any) -> DataLoader[Any]:
        """Open a data set as the loader does; draws of its own leave torch's generators alone."""
        loader = self.loader
        assert isinstance(loader, DataLoader)
        if loader.num_workers:
            changes["prefetch_factor"] = loader.prefetch_factor
        return DataLoader(
            dataset,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            generator=torch.Generator().manual_seed(seed),
            **changes,
        )


def as_part(data: Any) -> Part:
    """Return data as a part.

    Args:
        data: a part; a tuple (inputs, targets) of tensors; an object with ``x`` and ``y``; a torch
            ``DataLoader``; or a torch ``Dataset`` of pairs.

    Raises:
        CnetError: for anything else, and as the parts themselves.
    """
    if all(hasattr(data, name) for name in ("fingerprint", "batches", "shuffled", "first")):
        part: Part = data
        return part
    if isinstance(data, tuple) and len(data) == 2:
        return TensorPart(*data)
    if isinstance(data, DataLoader):
        return LoaderPart(data)
    if isinstance(data, Dataset):
        return LoaderPart(DataLoader(data))
    if hasattr(data, "x") and hasattr(data, "y"):
        return TensorPart(data.x, data.y)
    kind, fix = type(data).__name__, None
    if all(hasattr(data, name) for name in ("train", "val", "test")):
        fix = "give one part of it, such as its test"
    raise CnetError(
        f"the data is {kind}; expected a tuple (inputs, targets), an object with x and y, a torch "
        f"DataLoader or a part{'; ' + fix if fix else ''}.",
        key="data",
        value=kind,
        expected="(inputs, targets), .x and .y, a DataLoader or a part",
        fix=fix,
    )


def gathered(part: Part, count: int | None = None) -> TensorPart:
    """Return the first samples of a part (None: all) in memory."""
    if isinstance(part, TensorPart):
        return part.first(count)
    kept: list[Batch] = []
    found = 0
    for batch in part.batches(_HASHED):
        kept.append(batch)
        found += len(batch[1])
        if count is not None and found >= count:
            break
    if not kept:
        raise CnetError("the data has no samples; expected at least one.", key="data", value=0)
    inputs = joined([inputs for inputs, _ in kept])
    return TensorPart(inputs, torch.cat([targets for _, targets in kept])).first(count)


def _order(samples: int, seed: int) -> Tensor:
    return torch.randperm(samples, generator=torch.Generator().manual_seed(seed))


def _indexed(loader: Any) -> Dataset[Any] | None:
    """Return a loader's data set where its samples can be asked for in any order."""
    if (
        isinstance(loader, DataLoader)
        and loader.batch_size is not None
        and not isinstance(loader.dataset, IterableDataset)
        and type(loader.sampler) in (SequentialSampler, RandomSampler)
        and len(loader.sampler) == len(loader.dataset)  # type: ignore[arg-type]
        and not getattr(loader.sampler, "replacement", False)
    ):
        return loader.dataset
    return None


def _cut(stream: Iterator[Batch], size: int) -> Iterator[Batch]:
    """Yield the samples of a stream in batches of one size."""
    held: list[Batch] = []
    count = 0
    for batch in stream:
        held.append(batch)
        count += len(batch[1])
        if count < size:
            continue
        inputs = held[0][0] if len(held) == 1 else joined([x for x, _ in held])
        targets = torch.cat([y for _, y in held])
        whole = count - count % size
        for start in range(0, whole, size):
            chosen = slice(start, start + size)
            yield select(inputs, chosen), targets[chosen]
        count -= whole
        held = [(select(inputs, slice(whole, None)), targets[whole:])] if count else []
    if held:
        yield joined([x for x, _ in held]), torch.cat([y for _, y in held])
