"""The representation reaches every residual block, and nothing else of the UNet changes."""

from __future__ import annotations

import copy

import pytest
import torch

from msn_mm.diffusion.conditional_norm import ConditionalGroupNorm, ConditionedBlock
from msn_mm.diffusion.unet import RepresentationUNet
from msn_mm.errors import UserError
from tests.diffusion.tiny import UNET

diffusers = pytest.importorskip("diffusers")


def network(moved=True, **changes):
    torch.manual_seed(3)
    net = RepresentationUNet(24, 8, 1, **{**UNET, **changes})
    if moved:
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return net


def inputs(batch=4):
    generator = torch.Generator().manual_seed(4)
    noisy = torch.randn(batch, 1, 8, 8, generator=generator)
    return noisy, torch.arange(batch) * 5, torch.randn(batch, 24, generator=generator)


def test_every_residual_block_is_told_the_representation():
    net = network()
    blocks = [m for m in net.modules() if isinstance(m, ConditionedBlock)]
    plain = [m for m in net.modules() if isinstance(m, diffusers.models.resnet.ResnetBlock2D)]
    assert len(blocks) == len(plain) == net.num_blocks == 10
    assert not [m for b in plain for m in b.modules() if isinstance(m, torch.nn.GroupNorm)]
    noisy, steps, representations = inputs()
    seen = {}

    def look(module, args, kwargs, output):
        temb = kwargs.get("temb", args[1] if len(args) > 1 else None)
        seen[module] = (args[0], temb, output)

    handles = [b.register_forward_hook(look, with_kwargs=True) for b in blocks]
    net(noisy, steps, representations)
    for handle in handles:
        handle.remove()
    assert len(seen) == len(blocks)
    for block, (hidden, temb, output) in seen.items():
        with torch.no_grad():
            assert torch.equal(block(hidden, temb), output)
            silent = temb.clone()
            silent[:, block.time_width :] = 0
            assert (block(hidden, silent) - output).abs().max() > 1e-3
            late = temb.clone()
            late[:, : block.time_width] = 0
            assert (block(hidden, late) - output).abs().max() > 1e-4
            for name in ("norm1", "norm2"):
                deaf = copy.deepcopy(block)
                getattr(deaf.block, name).affine.weight.zero_()
                assert (deaf(hidden, temb) - output).abs().max() > 1e-4, name


def test_it_starts_as_the_unconditioned_unet():
    net = network(moved=False)
    torch.nn.init.normal_(net.network.conv_out.weight)
    plain = diffusers.UNet2DModel(**{**net.network.config, "class_embed_type": None})
    state = {}
    for name, value in net.network.state_dict().items():
        if ".affine." in name or name.startswith("class_embedding."):
            continue
        state[
            name.replace(".block.", ".").replace("time_embedding.embedding", "time_embedding")
        ] = value
    missing, odd = plain.load_state_dict(state, strict=False)
    assert not odd and all(".norm1." in name or ".norm2." in name for name in missing)
    noisy, steps, representations = inputs()
    with torch.no_grad():
        found = net(noisy, steps, representations)
        expected = plain(noisy, steps).sample
    assert found.abs().max() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients():
    plain = network()
    saving = network(gradient_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    grads = []
    for net in (plain.train(), saving.train()):
        noisy, steps, representations = inputs()
        net(noisy, steps, representations).square().mean().backward()
        # A second pass in between must not change what the first one computes again.
        grads.append({name: p.grad for name, p in net.named_parameters()})
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-6, rtol=1e-5, msg=name)
    assert grads[1]["network.class_embedding.linear.weight"].abs().max() > 0


def test_checkpointed_passes_do_not_mix():
    """Two forward passes, then both backward: each computes again with its own representation."""
    plain, saving = network(), network(gradient_checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    found = []
    for net in (plain.train(), saving.train()):
        noisy, steps, representations = inputs()
        first = net(noisy, steps, representations).square().mean()
        second = net(noisy, steps, 2 * representations).square().mean()
        (first + second).backward()
        found.append(net.network.class_embedding.linear.weight.grad)
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-5)


def test_a_norm_alone_has_no_condition():
    norm = ConditionalGroupNorm(2, 4, 3)
    with pytest.raises(RuntimeError, match="inside of a ConditionedBlock"):
        norm(torch.zeros(1, 4, 2, 2))
    net = network()
    net(*inputs())
    norms = [m for m in net.modules() if isinstance(m, ConditionalGroupNorm)]
    assert all(m.condition is None for m in norms), "no graph outlives the pass"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(attention=(True,)), "channels has 2 levels and attention 1"),
        (dict(groups=3), "3 groups do not divide 8"),
        (dict(head_dim=5), "head_dim 5 does not divide 16"),
        (dict(channels=(8,) * 5, attention=(False,) * 5), "which 4 halvings do not divide"),
    ],
)
def test_impossible_sizes_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        network(moved=False, **changes)


def test_another_width_is_told():
    noisy, steps, representations = inputs()
    with pytest.raises(UserError, match="has 20 numbers and this RCDM was trained with 24"):
        network()(noisy, steps, representations[:, :20])
