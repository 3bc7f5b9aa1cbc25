"""Train the last block and a head on tokens.

Legend: n labelled images, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import AdamW

from msn_mm.datasets.keys import PERMUTATION_STREAM, SampleKey, philox
from msn_mm.engine.optim.layer_decay import layer_groups
from msn_mm.evaluation.partial.recipe import PartialRecipe, Trial
from msn_mm.evaluation.partial.tokens import TokenStore
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.classifiers.last_block import LastBlockClassifier


class LabelledTokens:
    """What a classifier may learn from: tokens and labels of the labelled images alone.

    Args:
        tokens: Computes the two stores, when one is first asked for.
        indices: ``(n,)`` places of these images in their data set.
        labels: ``(n,)`` labels, from 0 to K - 1.
        num_classes: K.
    """

    def __init__(
        self,
        tokens: Callable[[], tuple[TokenStore, TokenStore]],
        indices: NDArray[np.int64],
        labels: NDArray[np.int64],
        num_classes: int,
    ) -> None:
        self.indices = indices
        self.labels = labels
        self.num_classes = num_classes
        self._compute = tokens

    @cached_property
    def _stores(self) -> tuple[TokenStore, TokenStore]:
        return self._compute()

    @property
    def crops(self) -> TokenStore:
        """Tokens to train on, of random crops."""
        return self._stores[0]

    @property
    def central(self) -> TokenStore:
        """Tokens of the central views, of the same images in the same order."""
        return self._stores[1]

    @property
    def place(self) -> str:
        """How much there is and where it lies."""
        crops, central = self._stores
        size = crops.size + (0 if central is crops else central.size)
        return f"{size:,} bytes {crops.place}"


class LastBlockTrainer:
    """Trainings of one trunk's last block.

    Args:
        trunk: Where each training starts; it stays as it is.
        recipe: What is fixed.
        amp: Compute the block in bfloat16 where that is safe.
        pass_batch: Most images of a forward pass; passes add up to a step.
    """

    def __init__(
        self, trunk: MaskedViT, recipe: PartialRecipe, amp: bool = False, pass_batch: int = 64
    ) -> None:
        self.trunk = trunk
        self.recipe = recipe
        self.amp = amp
        self.pass_batch = pass_batch
        self.device = next(trunk.parameters()).device

    def start(self, num_classes: int) -> LastBlockClassifier:
        """Return the classifier that every training starts from."""
        recipe = self.recipe
        return LastBlockClassifier(self.trunk, num_classes, recipe.drop_path, recipe.seed)

    def train(
        self, data: LabelledTokens, rows: NDArray[np.int64], trial: Trial, batch: int | None = None
    ) -> LastBlockClassifier:
        """Train on some of the labelled images.

        AdamW, a linear warm-up and a cosine to 0, label smoothing. Which images
        are in a step and what drop path drops are functions of (seed, epoch,
        image); epoch e shows crop e modulo the number of crops.

        Args:
            data: The labelled images.
            rows: Which of them, ascending.
            trial: Learning rate and length.
            batch: Most images of a step, where ``rows`` are a part of a subset: a
                rate is chosen at the batch that it is then used with.

        Returns:
            The classifier in evaluation mode. Its weights need not be finite.
        """
        recipe = self.recipe
        model = self.start(data.num_classes).train()
        groups = layer_groups(model, trial.lr, recipe.layer_decay)
        optimizer = AdamW(
            groups,
            lr=trial.lr,
            betas=recipe.betas,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        batches = -(-len(rows) // (batch or recipe.batch_of(len(rows))))
        total = batches * trial.epochs
        step = 0
        for epoch in range(trial.epochs):
            order = philox(recipe.seed, epoch, 0, 0, PERMUTATION_STREAM).permutation(rows)
            for shown in np.array_split(order, batches):
                factor = rate_factor(step, total, recipe.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = trial.lr * group["lr_scale"] * factor
                optimizer.zero_grad()
                for start in range(0, len(shown), self.pass_batch):
                    part = shown[start : start + self.pass_batch]
                    self._loss(model, data, part, epoch).div(len(shown)).backward()
                optimizer.step()
                step += 1
        # A finished block may wait for long; its gradients would double its room.
        model.zero_grad(set_to_none=True)
        return model.eval().requires_grad_(False)

    def _loss(
        self, model: LastBlockClassifier, data: LabelledTokens, rows: NDArray[np.int64], epoch: int
    ) -> Tensor:
        recipe = self.recipe
        tokens = data.crops.get(epoch % data.crops.views, torch.from_numpy(rows))
        keys = torch.tensor(
            [SampleKey(int(i), recipe.seed, epoch).view_key(0) for i in data.indices[rows]],
            device=self.device,
        )
        labels = torch.from_numpy(data.labels[rows]).to(self.device)
        logits = self.logits(model, tokens, keys)
        return F.cross_entropy(
            logits, labels, label_smoothing=recipe.label_smoothing, reduction="sum"
        )

    def logits(
        self, model: LastBlockClassifier, tokens: Tensor, keys: Tensor | None = None
    ) -> Tensor:
        """Return ``(B, K)`` logits of ``(B, T, D)`` tokens, in full precision."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.amp):
            return model(tokens, keys)

    @torch.inference_mode()
    def ask(
        self, model: LastBlockClassifier, data: LabelledTokens, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the ``(m, K)`` logits of the central views of some labelled images."""
        parts = [
            self.logits(model, data.central.get(0, torch.from_numpy(part)))
            for part in np.array_split(rows, -(-len(rows) // self.pass_batch))
        ]
        return torch.cat(parts).double().cpu().numpy()


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Return the share of the highest learning rate at a step.

    It rises linearly over the first ``warmup`` of the steps, then falls along
    half a cosine towards 0.

    Args:
        step: From 0 to ``steps`` - 1.
        steps: All steps of the training.
        warmup: Share of them.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / (steps - rising)))
