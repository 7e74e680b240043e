"""Recurrent networks with a crossbar for each of their matrices: LSTM, GRU, RNN."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from cnet_aihw.rram.crossbar.layers import one_draw
from cnet_aihw.rram.crossbar.unfolded import UnfoldedModule, linear_of
from cnet_aihw.runtime.errors import CnetError

_SETTINGS = (
    *("mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"),
    *("bidirectional", "proj_size"),
)
_MATRICES = ("ih", "hh", "hr")

State = tuple[Tensor, ...]
"""State of one layer and direction: h [N, hidden], of an LSTM also c."""


class CrossbarRecurrent(UnfoldedModule):
    """One of torch's recurrent modules with a layer for each matrix.

    ``ih_l0`` takes the inputs of layer 0, of all steps in one call; ``hh_l0`` its state, once a
    step; ``hr_l0`` projects the state, where there is ``proj_size``; the other direction's have
    ``_reverse`` in their names. Gates and states are digital. In training all steps of a forward
    see one sample of the variation.
    """

    given_up = frozenset(
        {"_flat_weights", "_flat_weight_refs", "_flat_weights_names", "_all_weights"}
    )
    digital_class: ClassVar[type[nn.RNNBase]]
    states: ClassVar[int] = 1

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    bidirectional: bool
    proj_size: int

    def __init__(self, module: nn.RNNBase) -> None:
        super().__init__()
        for name in _SETTINGS:
            setattr(self, name, getattr(module, name))
        for suffix, matrix in self._matrices():
            weight = getattr(module, f"weight_{matrix}_{suffix}")
            bias = module._parameters.get(f"bias_{matrix}_{suffix}")
            trained = weight.requires_grad, bias is not None and bias.requires_grad
            self.add_module(f"{matrix}_{suffix}", linear_of(weight, bias, trained=trained))

    @classmethod
    def from_digital(
        cls, module: Any, rpu_config: Any = None, tile_module_class: type | None = None
    ) -> CrossbarRecurrent:
        """Return the module made of plain layers, with copies of the weights."""
        return cls(module)

    def folded(self) -> nn.Module:
        """Return torch's module with the present weights of the layers."""
        names = [name for name in _SETTINGS if name != "mode"]
        settings = {name: getattr(self, name) for name in names}
        if self.digital_class is not nn.LSTM:
            del settings["proj_size"]
        if self.digital_class is nn.RNN:
            settings["nonlinearity"] = self.mode.removeprefix("RNN_").lower()
        digital: Any = self.digital_class(**settings, device="meta")
        for suffix, matrix in self._matrices():
            layer: Any = getattr(self, f"{matrix}_{suffix}")
            setattr(digital, f"weight_{matrix}_{suffix}", layer.weight)
            if layer.bias is not None:
                setattr(digital, f"bias_{matrix}_{suffix}", layer.bias)
        digital._init_flat_weights()
        return digital

    def state_layers(self) -> list[nn.Module]:
        """Return the layers that are called once a step, with the state."""
        return [getattr(self, f"{m}_{suffix}") for suffix, m in self._matrices() if m == "hh"]

    def flatten_parameters(self) -> None:
        """Do nothing, where torch's modules lay out their weights for cuDNN."""

    def forward(self, x: Any, hx: Any = None) -> tuple[Any, Any]:
        """Return outputs and last states; arguments and shapes as torch has them.

        Args:
            x: [T, N, in], [N, T, in] with ``batch_first``, [T, in] without a batch, or packed.
            hx: first states, [layers * directions, N, hidden] (of an LSTM, h and c); None: zeros.

        Raises:
            CnetError: for inputs or states of another shape.
        """
        packed = isinstance(x, PackedSequence)
        order = restored = None
        if packed:
            data, batch_sizes, order, restored = x
            sizes = batch_sizes.tolist()
        else:
            self._check_input(x)
            steps = x.unsqueeze(1) if x.dim() == 2 else x
            steps = steps.transpose(0, 1) if self.batch_first and x.dim() == 3 else steps
            sizes, data = [steps.shape[1]] * len(steps), steps.flatten(0, 1)
        batched = packed or x.dim() == 3
        first = self._first_states(hx, data, sizes[0], batched, order)
        with one_draw(self):
            data, last = self._layers(data, sizes, first)
        if restored is not None:
            last = tuple(state.index_select(1, restored) for state in last)
        if packed:
            return PackedSequence(data, batch_sizes, order, restored), self._given(last)
        out = data.unflatten(0, (len(sizes), -1))
        if not batched:
            return out.squeeze(1), self._given(tuple(state.squeeze(1) for state in last))
        return (out.transpose(0, 1) if self.batch_first else out), self._given(last)

    def _layers(self, data: Tensor, sizes: Sequence[int], first: State) -> tuple[Tensor, State]:
        """Run all layers on the steps one behind the other, [steps, in] -> [steps, out]."""
        last: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for suffix in self._directions(layer):
                begin = tuple(state[len(last)] for state in first)
                out, end = self._run(data, sizes, begin, suffix)
                outputs.append(out)
                last.append(end)
            data = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            if self.dropout > 0.0 and layer < self.num_layers - 1:
                data = F.dropout(data, self.dropout, self.training)
        return data, tuple(torch.stack(states) for states in zip(*last, strict=True))

    def _run(
        self, data: Tensor, sizes: Sequence[int], state: State, suffix: str
    ) -> tuple[Tensor, State]:
        """Run one layer in one direction; sequences end (or begin) at different steps if packed."""
        inputs = getattr(self, f"ih_{suffix}")(data).split(list(sizes))
        outputs, ended = [], []
        reverse = suffix.endswith("_reverse")
        waiting, state = state, tuple(s[: sizes[-1 if reverse else 0]] for s in state)
        for x in reversed(inputs) if reverse else inputs:
            running = len(state[0])
            if len(x) < running:
                ended.append(tuple(s[len(x) :] for s in state))
                state = tuple(s[: len(x)] for s in state)
            elif len(x) > running:
                more = [s[running : len(x)] for s in waiting]
                state = tuple(map(torch.cat, zip(state, more, strict=True)))
            state = self._step(x, state, suffix)
            outputs.append(state[0])
        if ended:
            state = tuple(map(torch.cat, zip(state, *reversed(ended), strict=True)))
        return torch.cat(outputs[::-1] if reverse else outputs), state

    def _step(self, x: Tensor, state: State, suffix: str) -> State:
        """Return the state after one step.

        Args:
            x: what the inputs give to the gates, [N, gates * hidden].
            state: state before it.
            suffix: name of layer and direction.
        """
        raise NotImplementedError

    def _recurrent(self, h: Tensor, suffix: str) -> Tensor:
        gates: Tensor = getattr(self, f"hh_{suffix}")(h)
        return gates

    def _first_states(
        self, hx: Any, data: Tensor, samples: int, batched: bool, order: Tensor | None
    ) -> State:
        sizes = [self.proj_size or self.hidden_size, self.hidden_size][: self.states]
        layers = self.num_layers * (2 if self.bidirectional else 1)
        wanted = [(layers, samples, size) for size in sizes]
        if hx is None:
            return tuple(data.new_zeros(shape) for shape in wanted)
        given = tuple(hx) if self.states > 1 else (hx,)
        given = given if batched else tuple(state.unsqueeze(1) for state in given)
        found = [tuple(state.shape) for state in given]
        if found != wanted:
            raise CnetError(
                f"the first states hx have the shapes {found}; expected {wanted}.",
                key="hx",
                value=found,
                expected=wanted,
            )
        return given if order is None else tuple(s.index_select(1, order) for s in given)

    def _check_input(self, x: Tensor) -> None:
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size or 0 in x.shape[:-1]:
            expected = f"[steps, samples, {self.input_size}], with one step at least"
            raise CnetError(
                f"the input has shape {tuple(x.shape)}; expected {expected}.",
                key="input",
                value=tuple(x.shape),
                expected=expected,
            )

    def _given(self, last: State) -> Any:
        return last if self.states > 1 else last[0]

    def _directions(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: 2 if self.bidirectional else 1]

    def _matrices(self) -> Iterator[tuple[str, str]]:
        """Yield layer and direction, and the name of a matrix, in torch's order."""
        for layer in range(self.num_layers):
            for suffix in self._directions(layer):
                for matrix in _MATRICES[: 3 if self.proj_size else 2]:
                    yield suffix, matrix

    def extra_repr(self) -> str:
        """Name the sizes, and what is not as by default."""
        text = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"
        given: dict[str, Any] = {"dropout": self.dropout, "batch_first": self.batch_first}
        given["nonlinearity"] = "relu" if self.mode == "RNN_RELU" else ""
        return text + "".join(f", {name}={value}" for name, value in given.items() if value)


class CrossbarLSTM(CrossbarRecurrent):
    """``torch.nn.LSTM`` with a layer for each matrix; see :class:`CrossbarRecurrent`."""

    digital_class = nn.LSTM
    states = 2

    def _step(self, x: Tensor, state: State, suffix: str) -> State:
        h, c = state
        i, f, g, o = (x + self._recurrent(h, suffix)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return (getattr(self, f"hr_{suffix}")(h) if self.proj_size else h), c


class CrossbarGRU(CrossbarRecurrent):
    """``torch.nn.GRU`` with a layer for each matrix; see :class:`CrossbarRecurrent`."""

    digital_class = nn.GRU

    def _step(self, x: Tensor, state: State, suffix: str) -> State:
        (h,) = state
        from_input, from_state = x.chunk(3, -1), self._recurrent(h, suffix).chunk(3, -1)
        reset = torch.sigmoid(from_input[0] + from_state[0])
        keep = torch.sigmoid(from_input[1] + from_state[1])
        new = torch.tanh(from_input[2] + reset * from_state[2])
        return (new + keep * (h - new),)


class CrossbarRNN(CrossbarRecurrent):
    """``torch.nn.RNN`` with a layer for each matrix; see :class:`CrossbarRecurrent`."""

    digital_class = nn.RNN

    def _step(self, x: Tensor, state: State, suffix: str) -> State:
        activation = torch.tanh if self.mode == "RNN_TANH" else torch.relu
        return (activation(x + self._recurrent(state[0], suffix)),)
