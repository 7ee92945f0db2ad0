"""Transformer layers of the wav2vec2 family on packed frames in bfloat16, in as few operations as possible.

A GPU computes a layer of base on a batch in about a millisecond, and the program needs nearly as long to start the operations
of transformers' modules: three products for queries, keys and values, copies between layouts, dropouts that drop nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from w2v2.models.bfloat16 import rounded
from w2v2.models.packing import Packing, attention
from w2v2.models.torch_internals import num_changes

NUM_WEIGHTS = 12
"""Weights and biases of a layer; the projections to queries, keys and values are one matrix."""
STACKED, OUT, NORM, INNER, OUTER, FINAL_NORM = range(0, NUM_WEIGHTS, 2)
"""Places of the weights of a layer's parts; the bias of each part is at the next place."""


@dataclass(frozen=True, kw_only=True)
class PackedLayer:
    """One of transformers' layers, with its weights in bfloat16."""

    module: Any
    weights: Sequence[Float[Tensor, "..."]]
    """NUM_WEIGHTS tensors: the weight of each part, (outputs, inputs) or (outputs,), at its place, and its bias,
    (outputs,), after it."""
    stable: bool
    """Whether the layer normalises before, not after, each of its two blocks."""

    def __call__(self, hidden: Float[Tensor, "total dim"], packing: Packing) -> Float[Tensor, "total dim"]:
        """The layer's output for packed frames, which follow each other clip after clip."""
        layer = self.module
        inputs = self._normalised(hidden, layer.layer_norm, NORM) if self.stable else hidden
        hidden = hidden + _dropped(self._attended(inputs, packing), layer.dropout)
        if self.stable:
            return hidden + self._fed_forward(self._normalised(hidden, layer.final_layer_norm, FINAL_NORM))
        hidden = self._normalised(hidden, layer.layer_norm, NORM)
        return self._normalised(hidden + self._fed_forward(hidden), layer.final_layer_norm, FINAL_NORM)

    def _attended(self, inputs: Float[Tensor, "total dim"], packing: Packing) -> Float[Tensor, "total dim"]:
        module = self.module.attention
        stacked = self._product(inputs, STACKED).view(len(inputs), 3, module.num_heads, module.head_dim)
        dropout = module.dropout if module.training else 0.0
        return self._product(attention(stacked, packing, dropout=dropout).flatten(1), OUT)

    def _fed_forward(self, inputs: Float[Tensor, "total dim"]) -> Float[Tensor, "total dim"]:
        module = self.module.feed_forward
        inner = module.intermediate_act_fn(self._product(inputs, INNER))
        outputs = self._product(_dropped(inner, module.intermediate_dropout), OUTER)
        return _dropped(outputs, module.output_dropout)

    def _product(self, inputs: Float[Tensor, "total inputs"], place: int) -> Float[Tensor, "total outputs"]:
        return nn.functional.linear(inputs, self.weights[place], self.weights[place + 1])

    def _normalised(
        self, hidden: Float[Tensor, "total dim"], norm: nn.LayerNorm, place: int
    ) -> Float[Tensor, "total dim"]:
        weight, bias = self.weights[place], self.weights[place + 1]
        return nn.functional.layer_norm(hidden, norm.normalized_shape, weight, bias, norm.eps)


def _groups(layer: Any) -> list[tuple[Tensor, ...]]:
    """The weights of a layer in groups; queries, keys and values are one group."""
    attention, feed_forward = layer.attention, layer.feed_forward
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    others = (
        attention.out_proj,
        layer.layer_norm,
        feed_forward.intermediate_dense,
        feed_forward.output_dense,
        layer.final_layer_norm,
    )
    stacked = [tuple(module.weight for module in projections), tuple(module.bias for module in projections)]
    return stacked + [(tensor,) for module in others for tensor in (module.weight, module.bias)]


def _dropped(hidden: Float[Tensor, "total dim"], dropout: nn.Dropout) -> Float[Tensor, "total dim"]:
    if not dropout.training or not dropout.p:
        return hidden
    return nn.functional.dropout(hidden, dropout.p)


@dataclass(kw_only=True)
class RoundedLayers:
    """The packed layers of a model; weights that are not trained are rounded once, and again when they have changed."""

    _made: dict[tuple[int, int], tuple[list[tuple[int, int]], list[PackedLayer]]] = field(
        default_factory=dict
    )

    def of(self, layers: nn.ModuleList, first: int, *, stable: bool) -> list[PackedLayer]:
        """The packed form of consecutive layers of a model; `first` is the number of the lowest one."""
        groups = [group for layer in layers for group in _groups(layer)]
        weights = [weight for group in groups for weight in group]
        if any(
            weight.requires_grad for weight in weights
        ):  # a fused optimizer's steps are not counted by num_changes
            self._made.clear()
            return _packed(layers, groups, stable)
        state = [(weight.data_ptr(), num_changes(weight)) for weight in weights]
        before, made = self._made.get((first, len(layers)), ([], []))
        if state != before:
            made = _packed(layers, groups, stable)
            self._made[first, len(layers)] = state, made
        return made

    def __reduce__(self) -> tuple[type["RoundedLayers"], tuple[()]]:
        """A copy of a model rounds its own weights."""
        return RoundedLayers, ()


def _packed(layers: nn.ModuleList, groups: Sequence[Sequence[Tensor]], stable: bool) -> list[PackedLayer]:
    weights = rounded(groups)
    return [
        PackedLayer(
            module=layer, weights=weights[number * NUM_WEIGHTS : (number + 1) * NUM_WEIGHTS], stable=stable
        )
        for number, layer in enumerate(layers)
    ]
