"""Recurrent classifiers: torch's own LSTM or GRU layers and a linear readout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ebatch_env.errors import check_choice, check_integer
from ebatch_env.networks import Network

Readout = Literal["last", "mean"]


@dataclass(frozen=True)
class LayerWeights:
    """One layer's parameters as torch keeps them; G gates (LSTM i, f, g, o; GRU r, z, n), H neurons, I inputs.

    Attributes:
        cell: ``lstm`` or ``gru``.
        forward: (G * H, I) weights of the input; ``recurrent``: (G * H, H) of the layer's own last output.
        forward_bias, recurrent_bias: (G * H,).
    """

    cell: str
    forward: Tensor
    recurrent: Tensor
    forward_bias: Tensor
    recurrent_bias: Tensor

    @property
    def hidden(self) -> int:
        """H."""
        return int(self.recurrent.shape[1])

    @property
    def gates(self) -> int:
        """G."""
        return int(self.recurrent.shape[0]) // self.hidden

    @property
    def parts(self) -> int:
        """Dot products that a gate neuron keeps apart: 2 in a GRU, whose reset gate weighs one of them; 1 in an LSTM."""
        return 2 if self.cell == "gru" else 1

    def advance(self, dots: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """New output and cell state from the gates' dot products.

        Args:
            dots: (S, P, G * H), P = `parts`: input part and recurrent part, or their sum.
            h, c: (S, H) output and cell state before; a GRU has no cell state of its own and hands back its output.
        """
        if self.cell == "lstm":
            i, f, g, o = (dots[:, 0] + (self.forward_bias + self.recurrent_bias)).chunk(4, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c
        x = (dots[:, 0] + self.forward_bias).chunk(3, dim=1)
        u = (dots[:, 1] + self.recurrent_bias).chunk(3, dim=1)
        r, z = torch.sigmoid(x[0] + u[0]), torch.sigmoid(x[1] + u[1])
        h = (1.0 - z) * torch.tanh(x[2] + r * u[2]) + z * h
        return h, h


class RecurrentClassifier(nn.Module):
    """Stacked LSTM or GRU layers and a linear readout.

    Args:
        cell: ``lstm`` or ``gru``.
        features: width F of the input.
        hidden: neurons H of a layer.
        layers: their number.
        classes: K.
        readout: what is classified: the top layer's ``last`` output, or the ``mean`` of its outputs.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(self, cell: str, features: int, hidden: int, layers: int, classes: int, readout: Readout = "last"):
        super().__init__()
        self.cell = check_choice("cell", cell, ("lstm", "gru"))
        self.readout_of = check_choice("readout", readout, ("last", "mean"))
        for name, value in (("features", features), ("hidden", hidden), ("layers", layers), ("classes", classes)):
            check_integer(name, value, low=1)
        self.recurrent = (nn.LSTM if cell == "lstm" else nn.GRU)(features, hidden, layers, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, steps: Tensor, length: Tensor) -> Tensor:
        """Logits (S, K) of sequences (S, T, F), by torch's own layers and nothing approximated."""
        return self.readout(self.recurrent(steps)[0], length)

    def readout(self, outputs: Tensor, length: Tensor) -> Tensor:
        """Logits (S, K) from the top layer's outputs (S, T, H)."""
        if self.readout_of == "last":
            return self.head(outputs[torch.arange(len(length)), length - 1])  # type: ignore[no-any-return]
        inside = torch.arange(outputs.shape[1]) < length[:, None]
        return self.head((outputs * inside[..., None]).sum(dim=1) / length[:, None])  # type: ignore[no-any-return]

    @property
    def layers(self) -> list[LayerWeights]:
        """The layers' parameters, detached."""
        net = self.recurrent
        return [
            LayerWeights(
                self.cell,
                *(
                    getattr(net, f"{name}_l{layer}").detach()
                    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                ),
            )
            for layer in range(net.num_layers)
        ]

    def shape(self, name: str) -> Network:
        """The network as machines see it."""
        net = self.recurrent
        return Network.stack(name, self.cell, net.num_layers, net.hidden_size, input_size=net.input_size)
