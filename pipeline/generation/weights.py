"""Weights of a model that only generates, in the form that a CPU reads fastest.

A token generated alone reads each weight once, so memory bandwidth is its limit. `bf16` halves the bytes of fp32 and
keeps matrices in the blocked layout of oneDNN: with a plain bf16 matrix PyTorch's product reaches about half of the
bandwidth. `int8` halves them again: one scale per row of a matrix, weights rounded to the nearest of 255 steps, inputs
in bf16; documents side by side gain nothing from it. Embeddings and norms are bf16 in both.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError

Weights = Literal["fp32", "bf16", "int8"]


class PackedLinear(nn.Module):
    """A linear layer in bf16 whose weight is in the layout of oneDNN."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self._packed: Any = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().bfloat16(), 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, I] -> [B, O] in bf16; more dimensions in front are kept."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return out


class Int8Linear(nn.Module):
    """A linear layer whose weight is int8 with a scale per row (absolute maximum over 127); inputs are bf16."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        weight_OI = linear.weight.detach()
        self.weight_OI = torch.empty(weight_OI.shape, dtype=torch.int8)
        self.scale_O = torch.empty(len(weight_OI), dtype=torch.bfloat16)
        for rows in torch.arange(len(weight_OI)).split(4096):  # else a large head would be in fp32 as a whole
            wide_RI = weight_OI[rows].float()
            self.scale_O[rows] = (wide_RI.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()
            self.weight_OI[rows] = (
                (wide_RI / self.scale_O[rows, None]).round().clamp(-127, 127).to(torch.int8)
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, I] -> [B, O] in bf16; more dimensions in front are kept."""
        flat = torch._weight_int8pack_mm(x.reshape(-1, self.in_features), self.weight_OI, self.scale_O)
        out = flat if self.bias is None else flat + self.bias
        return out.view(*x.shape[:-1], self.out_features)


_KINDS: dict[str, type[PackedLinear | Int8Linear]] = {"bf16": PackedLinear, "int8": Int8Linear}


def prepare_weights(model: nn.Module, weights: Weights) -> None:
    """Convert a model in place, for generation alone: it can neither be trained nor saved after that.

    On a GPU `bf16` is a plain conversion. A head that also embeds tokens keeps its matrix. Raises `ConfigError` for
    `int8` on a GPU and for `bf16` and `int8` on a CPU without bf16 products.
    """
    if weights == "fp32":
        return
    on_cpu = next(model.parameters()).device.type == "cpu"
    if not on_cpu and weights == "int8":
        raise ConfigError("int8 weights are read by the CPU's kernels alone: use bf16 on a GPU")
    if on_cpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise ConfigError(f"this CPU has no bf16 products, so {weights} weights would be slower: use fp32")
    if on_cpu:
        replaced: dict[nn.Module, nn.Module] = {}  # a module may be at several places
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.Linear) and not _embeds(parent):
                    if child not in replaced:
                        replaced[child] = _KINDS[weights](child)
                    parent._modules[name] = replaced[child]
    for parameter in model.parameters():  # not buffers: rotary frequencies stay fp32
        parameter.data = parameter.data.bfloat16()


def _embeds(parent: nn.Module) -> bool:
    """Whether the head of this SentenceVAE is its encoder's embedding too."""
    return getattr(getattr(parent, "config", None), "encoder_embedding", None) == "output"
