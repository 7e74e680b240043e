"""Seeded, stratified splits: every part holds every class, in the proportions of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cnet_aihw.runtime.errors import CnetError, bad_value
from cnet_aihw.runtime.values import is_number, is_seed, is_whole


def stratified_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """A random order of the rows whose every beginning holds the classes evenly.

    The k-th row of a class with n rows stands at k / n of the way, so the first n rows of the order
    hold every class as soon as n reaches the number of classes.

    Args:
        labels: class numbers [N], int64.
        generator: source of the order, on the CPU.

    Returns:
        Row numbers [N], int64.
    """
    shuffled = torch.randperm(len(labels), generator=generator)
    drawn = labels[shuffled]
    by_class = torch.argsort(drawn, stable=True)
    counts = torch.bincount(drawn)
    first = torch.cumsum(counts, 0) - counts
    rank = torch.empty_like(drawn)
    rank[by_class] = torch.arange(len(drawn)) - first[drawn[by_class]]
    return shuffled[torch.argsort(rank.double() / counts[drawn], stable=True)]


def mixing_order(labels: Tensor, seed: int) -> Tensor | None:
    """A stratified order for rows whose classes lie in blocks; None for those that are mixed.

    Scans, searches and fits take the first rows, which are of one class alone where files were read
    folder by folder.

    Args:
        labels: class numbers [N], int64.
        seed: seed of the order, at least 0.

    Returns:
        Row numbers [N], int64, or None.
    """
    if len(labels) < 2:
        return None
    changes = (labels[1:] != labels[:-1]).double().mean()
    of_a_random_order = 1.0 - (torch.bincount(labels).double() / len(labels)).square().sum()
    if changes >= of_a_random_order / 2:
        return None
    return stratified_order(labels, torch.Generator().manual_seed(seed))


def stratified_split(
    labels: Tensor,
    sizes: Mapping[str, int | float],
    seed: int,
    classes: int,
    class_names: Sequence[str] = (),
) -> list[Tensor]:
    """Cut rows into disjoint stratified parts.

    Args:
        labels: class numbers [N], int64, from 0 to ``classes`` - 1, every class there.
        sizes: for each part to cut off, the name of the setting (for messages) and its value: a
            whole number counts rows, a fraction between 0 and 1 is a share of all N.
        seed: seed of the split, at least 0.
        classes: number of classes.
        class_names: names of the classes, for messages.

    Returns:
        One tensor of row numbers for each of ``sizes``, in order, then that of all other rows
        (the training part), each in a stratified order.

    Raises:
        CnetError: an impossible size, or one that leaves some part without some class.
    """
    if not is_seed(seed) or seed < 0:
        raise bad_value("split_seed", seed, "a whole number from 0 to 2**63 - 1")
    generator = torch.Generator().manual_seed(seed)
    counts = {
        setting: _count(setting, size, len(labels), classes) for setting, size in sizes.items()
    }
    if len(labels) - sum(counts.values()) < classes:
        settings = " and ".join(f"{setting}={size}" for setting, size in sizes.items())
        raise CnetError(
            f"{settings}: {sum(counts.values())} of {len(labels)} samples, which leaves no "
            f"training part with one for each of the {classes} classes; make it smaller.",
            key=" and ".join(sizes),
            value=sum(counts.values()),
            expected=f"<= {len(labels) - classes}",
        )
    left = torch.arange(len(labels))
    parts = []
    for setting, size in sizes.items():
        count = counts[setting]
        order = left[stratified_order(labels[left], generator)]
        parts.append(order[:count])
        left = order[count:]
        _check_every_class(setting, size, labels, (parts[-1], left), classes, class_names)
    parts.append(left[stratified_order(labels[left], generator)])
    return parts


def label_of(number: int, class_names: Sequence[str]) -> str:
    """Return the name of a class in messages: its number, and its name where there is one."""
    return f"{number} ({class_names[number]})" if class_names else str(number)


def _count(setting: str, size: int | float, rows: int, classes: int) -> int:
    if not is_number(size):
        raise CnetError(
            f"{setting}={size!r} is not a size: give a whole number or a fraction.",
            key=setting,
            value=size,
            expected="a whole number or a fraction",
        )
    if not (size >= 1 if is_whole(size) else 0 < size < 1):
        raise CnetError(
            f"{setting}={size} is out of range: give a whole number of samples of at least 1, "
            "or a fraction between 0 and 1.",
            key=setting,
            value=size,
            expected="a whole number of samples of at least 1, or a fraction between 0 and 1",
        )
    count = int(size) if is_whole(size) else round(float(size) * rows)
    if count < classes:
        raise CnetError(
            f"{setting}={size} takes {count} of {rows} samples, fewer than one for each of the "
            f"{classes} classes: make it larger.",
            key=setting,
            value=size,
        )
    return count


def _check_every_class(
    setting: str,
    size: int | float,
    labels: Tensor,
    parts: tuple[Tensor, Tensor],
    classes: int,
    class_names: Sequence[str],
) -> None:
    for rows in parts:
        absent = torch.nonzero(torch.bincount(labels[rows], minlength=classes) == 0)
        if len(absent):
            raise CnetError(
                f"{setting}={size} does not leave samples of class "
                f"{label_of(int(absent[0]), class_names)} on both sides of the split: "
                "give more of them, or change the size.",
                key=setting,
                value=size,
                expected="more of them, or change the size",
            )
