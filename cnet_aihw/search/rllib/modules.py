"""Policies that choose layer by layer: small networks with a mask, as RLlib's modules."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

_FIRST = 0.01  # scale of the first policy's weights: it chooses almost evenly
_NEVER = -1e9  # logit of a choice that is masked


class _PlacementModule(TorchRLModule, ValueFunctionAPI):
    """Base of both policies: an encoder of the episode, a policy head and a value head.

    Observations are those of :class:`cnet_aihw.search.PlacementEnv`; ``model_config`` has
    ``hidden``, the width of the encoder.
    """

    def setup(self) -> None:
        """Build the networks; called by RLlib."""
        config, observed, chosen = self.model_config, self.observation_space, self.action_space
        assert isinstance(config, dict)
        assert isinstance(observed, spaces.Dict) and isinstance(chosen, spaces.Discrete)
        self.width = int(config["hidden"])
        self.build_encoder(spaces.flatdim(observed["observations"]))
        self.policy = nn.Linear(self.width, int(chosen.n))
        self.value = nn.Linear(self.width, 1)
        with torch.no_grad():
            self.policy.weight.mul_(_FIRST)
            self.policy.bias.zero_()

    def build_encoder(self, inputs: int) -> None:
        """Make the encoder of ``inputs`` numbers."""
        raise NotImplementedError

    def encode(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Return the encoded episode so far, [..., width], and further outputs."""
        raise NotImplementedError

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        encoded, outputs = self.encode(batch)
        mask = batch[Columns.OBS]["action_mask"]
        logits = self.policy(encoded).masked_fill(mask < 0.5, _NEVER)
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.EMBEDDINGS: encoded, **outputs}

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._explore(batch)

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return self._explore(batch)

    def _explore(self, batch: dict[str, Any]) -> dict[str, Any]:
        outputs = self._forward(batch)
        del outputs[Columns.EMBEDDINGS]  # for learning only: it would be kept with each step
        return outputs

    def compute_values(self, batch: dict[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """Return the reward expected at the end of each episode, [...]."""
        encoded = self.encode(batch)[0] if embeddings is None else embeddings
        values: Tensor = self.value(encoded).squeeze(-1)
        return values


class MLPPolicy(_PlacementModule):
    """One hidden layer; the observation has all choices so far."""

    def build_encoder(self, inputs: int) -> None:
        """Make a layer with tanh."""
        self.encoder = nn.Sequential(nn.Linear(inputs, self.width), nn.Tanh())

    def encode(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Return the encoded observations, [..., width], and nothing further."""
        return self.encoder(batch[Columns.OBS]["observations"]), {}


class GRUPolicy(_PlacementModule):
    """A GRU that remembers the episode (CorrectNet's recurrent policy, as we read the paper).

    ``model_config`` has ``max_seq_len`` as well, at least the number of layers + 1.
    """

    def build_encoder(self, inputs: int) -> None:
        """Make a GRU."""
        self.gru = nn.GRU(inputs, self.width, batch_first=True)

    def get_initial_state(self) -> dict[str, Any]:
        """Return the memory before the first layer, [width]."""
        return {"hidden": np.zeros(self.width, np.float32)}

    def encode(self, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        """Return the memory after each step [batch, steps, width]; the last one is the state."""
        hidden = batch[Columns.STATE_IN]["hidden"][None].contiguous()
        encoded, last = self.gru(batch[Columns.OBS]["observations"], hidden)
        return encoded, {Columns.STATE_OUT: {"hidden": last[0]}}
