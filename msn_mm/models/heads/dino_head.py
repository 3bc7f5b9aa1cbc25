"""DINO's projection head.

Legend: B rows, D representation width, P bottleneck width, K outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msn_mm.models.ops.precision import exact
from msn_mm.models.ops.sync_batch_norm import SyncBatchNorm
from msn_mm.registry import MODELS


class WeightNormLinear(nn.Linear):
    """A linear layer without bias whose rows have a direction and a length of their own.

    ``y = g * x @ (W / |W|)``, row by row. Source: Salimans & Kingma 2016,
    arXiv 1602.07868.

    Args:
        in_features: P.
        out_features: K.
        fixed_length: The lengths g are 1, not parameters.
    """

    length: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, fixed_length: bool = True) -> None:
        super().__init__(in_features, out_features, bias=False)
        lengths = None if fixed_length else nn.Parameter(torch.ones(out_features, 1))
        self.register_parameter("length", lengths)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, P)`` -> ``(B, K)``, in float32 (float64 for float64 inputs) also under autocast.

        The logits are divided by temperatures as low as 0.04: in bfloat16 their rounding
        alone would move the targets by a hundredth, and this weight's gradients by several.
        """
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(exact(x), exact(self.rows()))

    def rows(self) -> Tensor:
        """Return the rows ``(K, P)``, with their lengths."""
        rows = F.normalize(self.weight, dim=1)
        return rows if self.length is None else rows * self.length


@MODELS.register_module()
class DINOHead(nn.Module):
    """Three linear layers to a bottleneck, L2 normalisation, a weight-normalised layer.

    Source: Caron et al. 2021, arXiv 2104.14294, appendix C ("Projection head").

    Args:
        in_dim: D, the encoder's width.
        output_dim: K.
        hidden_dim: Width of the two hidden layers, each followed by GELU.
        bottleneck_dim: P.
        norm_last_layer: The rows of the last layer have length 1; else lengths that are
            learnt, which helps small models and can make large ones unstable.
        batch_norm: Put batch norm over the joint batch of all ranks behind the two hidden
            layers; the released code's ``use_bn_in_head``.
        init_std: Standard deviation of the first weights, 0.02 at the published widths. In
            a narrow head such weights shrink what goes through it, until biases
            outweigh the image and all images get one output: there about
            ``1 / sqrt(hidden_dim)``.

    Raises:
        ValueError: For a width below 1 or a single output.
    """

    def __init__(
        self,
        in_dim: int,
        output_dim: int = 65536,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        norm_last_layer: bool = True,
        batch_norm: bool = False,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        widths = dict(in_dim=in_dim, hidden_dim=hidden_dim, bottleneck_dim=bottleneck_dim)
        for name, width in widths.items():
            if width < 1:
                raise ValueError(f"DINOHead's {name} is {width}; it must be at least 1")
        if output_dim < 2:
            raise ValueError(f"DINOHead's output_dim is {output_dim}; it must be at least 2")
        self.in_dim = in_dim
        self.output_dim = output_dim
        layers: list[nn.Module] = []
        for width in (in_dim, hidden_dim):
            layers.append(nn.Linear(width, hidden_dim))
            layers += [SyncBatchNorm(hidden_dim)] if batch_norm else []
            layers.append(nn.GELU())
        self.projector = nn.Sequential(*layers, nn.Linear(hidden_dim, bottleneck_dim))
        for layer in self.projector:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=init_std)
                nn.init.zeros_(layer.bias)
        self.last_layer = WeightNormLinear(bottleneck_dim, output_dim, norm_last_layer)

    def embed(self, representations: Tensor) -> Tensor:
        """``(..., D)`` -> ``(..., P)`` of length 1, the last layer's input, in its precision."""
        # Batch norm takes rows.
        rows = self.projector(representations.flatten(0, -2))
        return F.normalize(exact(rows), dim=-1).unflatten(0, representations.shape[:-1])

    def forward(self, representations: Tensor) -> Tensor:
        """``(..., D)`` representations -> ``(..., K)`` logits."""
        return self.last_layer(self.embed(representations))
