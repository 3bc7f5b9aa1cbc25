"""Fine-tuning on two processes is fine-tuning on one, in float64: crops, mixing, depth, steps."""

from __future__ import annotations

import torch
from mmengine.registry import init_default_scope
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from msn_mm.datasets import KeyedSampler, labelled_collate
from msn_mm.engine.launch import load_config
from msn_mm.engine.optim.layer_decay import layer_groups
from msn_mm.registry import DATASETS, MODELS
from tests.test_distributed import on_two

BATCH = 16


def fine_tune(rank: int, world: int, _: int) -> dict:
    """An epoch of 64 digits by the shipped recipe, but for the sizes and Adam."""
    init_default_scope("msn_mm")
    cfg = load_config("configs/finetune_digits.py")
    cfg.merge_from_dict({"model.backbone.embed_dim": 24, "model.backbone.depth": 2})
    cfg.train_dataloader.dataset.dataset.indices = 4 * BATCH
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).double().train()
    prepare = model.data_preprocessor.float()
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    sampler = KeyedSampler(dataset, seed=3)
    loader = DataLoader(dataset, BATCH // world, sampler=sampler, collate_fn=labelled_collate)
    # Plain SGD: Adam would blow rounding noise of zero gradients up to its step size.
    optimizer = torch.optim.SGD(layer_groups(model, 0.1, 0.65), momentum=0.9, weight_decay=0.05)
    wrapped = DistributedDataParallel(model, broadcast_buffers=False) if world > 1 else model
    gradients, shares = [], []
    for data in loader:
        batch = prepare(data, training=True)
        shares.append(batch["data_samples"]["score"])
        loss = wrapped(batch["inputs"].double(), batch["data_samples"], mode="loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
        optimizer.step()
    return {"gradients": gradients, "shares": shares, "state": model.state_dict()}


def test_two_ranks_fine_tune_as_one(tmp_path):
    one = fine_tune(0, 1, 0)
    assert len(one["gradients"]) == 4
    # Images are mixed, or there would be nothing to show.
    assert sum((share.max(1).values < 0.9).sum().item() for share in one["shares"]) > 20
    for rank, two in enumerate(on_two(fine_tune, 0, tmp_path)):
        for step, (mine, joint) in enumerate(zip(two["shares"], one["shares"], strict=True)):
            assert torch.equal(mine, joint[rank::2])
            for name, gradient in one["gradients"][step].items():
                assert torch.allclose(two["gradients"][step][name], gradient, atol=1e-9), name
        for name, value in one["state"].items():
            assert torch.allclose(two["state"][name], value, atol=1e-10), name
