"""Judging on a chip: which inputs it misclassifies, by majority over readings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cnet_aihw.attacks.networks import PixelNetwork
from cnet_aihw.attacks.pixels import Array
from cnet_aihw.runtime.random_state import derive_seed
from cnet_aihw.runtime.torch_device import device_of


@dataclass(frozen=True)
class Judge:
    """One chip that judges inputs; its noise is never that which an attacker saw."""

    network: PixelNetwork
    """The network on the chip."""

    y: Array
    """Labels, [N]."""

    seed: int
    """Seed of its readings."""

    readings: int
    """Readings of each input; an input is misclassified if more than half of them say so."""

    batch_size: int
    """Samples a forward pass takes at once."""

    def wrong(self, x: Array, stream: str) -> Array:
        """Say which inputs are misclassified; outputs that are not finite are.

        Args:
            x: pixels, [N, C, ...].
            stream: name of what is read, so that its noise is its own.

        Returns:
            bool, [N].
        """
        missed = np.zeros(len(x), dtype=np.int64)
        for reading in range(self.readings):
            self.network.seed(derive_seed(self.seed, "judge", stream, reading))
            missed += self._missed(x)
        return missed * 2 > self.readings

    @torch.no_grad()
    def _missed(self, x: Array) -> Array:
        device, found = device_of(self.network), []
        for start in range(0, len(x), self.batch_size):
            outputs = self.network(torch.from_numpy(x[start : start + self.batch_size]).to(device))
            labels = torch.from_numpy(self.y[start : start + self.batch_size]).to(device)
            right = (outputs.argmax(1) == labels) & outputs.isfinite().all(1)
            found.append(~right.cpu())
        return np.asarray(torch.cat(found))
