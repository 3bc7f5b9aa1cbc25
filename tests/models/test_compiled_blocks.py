"""Compiled blocks: the same numbers, one graph a shape, nothing else changed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from msn_mm.engine.fsdp.settle import settle_sharding
from msn_mm.engine.fsdp.wrapper import FullyShardedModel
from msn_mm.engine.launch import load_config
from msn_mm.engine.run_parts import use_compile
from msn_mm.errors import UserError
from msn_mm.models.backbones.masked_vit import MaskedViT
from msn_mm.models.ops import compiled_blocks

TINY = dict(name="vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=3)
TINY |= dict(num_heads=3)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def tiny(**changes) -> MaskedViT:
    torch.manual_seed(0)
    return MaskedViT(**{**TINY, **changes}).train()


def step(trained: MaskedViT, target: MaskedViT, seed: int) -> torch.Tensor:
    """Three token counts, one of them without gradients, as in a step of MSN."""
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    keys = torch.arange(6) + 10 * seed
    with torch.no_grad():
        wanted = target(images, keys=keys)
    large = trained(images, mask_ratio=0.25, keys=keys)
    small = trained(images[..., :16, :16], keys=keys + 100)
    loss = (large - wanted).square().mean() + (small - wanted).square().mean()
    loss.backward()
    return loss.detach()


def graphs() -> int:
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize(("rate", "checkpointing"), [(0.0, False), (0.3, True)])
def test_same_numbers_and_one_graph_a_token_count(rate, checkpointing):
    found = []
    for compile in (False, "aot_eager"):
        model = tiny(drop_path_rate=rate, checkpointing=checkpointing, compile=compile)
        target = copy.deepcopy(model).requires_grad_(False)
        losses = [step(model, target, 0)]
        warm = graphs()
        with torch.no_grad():
            for weight in target.parameters():
                weight.mul_(1.1)  # the copy computes with its own
        losses += [step(model, target, seed) for seed in (1, 2)]
        assert graphs() == warm
        found.append((losses, [p.grad.clone() for p in model.parameters()]))
    # The first block has no stochastic depth, so it is a block of another kind. The last one,
    # for CLS alone, is not compiled.
    assert warm == (3 if rate == 0.0 else 6)
    for plain, compiled in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(plain, compiled, rtol=1e-4, atol=1e-6)
    assert torch.allclose(torch.stack(found[0][0]), torch.stack(found[1][0]), rtol=1e-5)


def test_evaluation_names_and_hooks_are_those_of_the_plain_network():
    plain, compiled = tiny(), tiny(compile="eager")
    assert list(plain.state_dict()) == list(compiled.state_dict())
    assert list(map(type, plain.modules())) == list(map(type, compiled.modules()))
    images, met = torch.randn(2, 3, 32, 32), []
    for block in compiled.vit.blocks:
        block.register_forward_hook(lambda block, args, out: met.append(block))
    assert torch.equal(plain.eval()(images), compiled.eval()(images))
    assert graphs() == 0
    compiled.train()(images)
    assert graphs() == 1
    assert met == [*compiled.vit.blocks] * 2


def test_a_block_that_does_not_fit_one_graph_is_told():
    class Asks(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    block = Asks()
    compiled_blocks.compile_blocks_([block], "eager")
    with pytest.raises(torch._dynamo.exc.Unsupported):
        block(torch.ones(2))


def test_what_is_missing_is_told_in_one_line(monkeypatch):
    with pytest.raises(UserError, match="compile is 'inducktor'; torch has"):
        tiny(compile="inducktor")
    monkeypatch.setenv("CXX", "no-such-compiler")
    compiled_blocks._compiled.cache_clear()
    model = tiny(compile=True)
    with torch.no_grad():
        model.eval()(torch.randn(1, 3, 32, 32))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"C\+\+ compiler \(no-such-compiler\)"):
            model.train()(torch.randn(1, 3, 32, 32))


def test_shards_in_bfloat16_are_refused():
    model = tiny(compile="eager")
    assert compiled_blocks.has_compiled(copy.deepcopy(model))
    assert not compiled_blocks.has_compiled(tiny())
    with pytest.raises(UserError, match="param_dtype=None, or leave --compile out"):
        FullyShardedModel(model, param_dtype="bfloat16")


@pytest.mark.parametrize(("compile", "dtype"), [(False, "bfloat16"), (True, None)])
def test_shards_of_compiled_blocks_are_sent_in_float32(compile, dtype):
    cfg = load_config("configs/msn_vitl7_fsdp.py")
    cfg.launcher, cfg.optim_wrapper.type = "pytorch", "AmpGroupOptimWrapper"
    if compile:
        use_compile(cfg)
    settle_sharding(cfg)
    assert cfg.model_wrapper_cfg.param_dtype == dtype


def test_the_switch_is_for_a_vit_that_is_trained():
    with pytest.raises(UserError, match="has 'PlainResNet': leave --compile out"):
        use_compile(load_config("configs/byol_rn50.py"))
    with pytest.raises(UserError, match="has none"):
        use_compile(load_config("configs/eval/raw_pixels.py"))
