"""A training that starts from somebody's checkpoint, through real runners on tiny digits."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from convert.released import HIDDEN, OUTPUT, PROTOTYPES, adam_by_name, released
from convert.vits import SIZE, random_vit
from helpers import tiny_digits
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from msn_mm.convert.format import RawCheckpoint, convert
from msn_mm.convert.resnet import ResNetArchitecture
from msn_mm.convert.source import read_source
from msn_mm.convert.writer import write
from msn_mm.engine.launch import build_runner, train
from msn_mm.engine.starting_weights import starting_weights
from msn_mm.errors import UserError
from msn_mm.models.ops.position import resample_positions
from tests.test_fsdp import on_two

ROOT = Path(__file__).resolve().parent.parent
HEAD = {
    "model.head.hidden_dim": HIDDEN,
    "model.head.output_dim": OUTPUT,
    "model.head.num_prototypes": PROTOTYPES,
}
WITHOUT_VAL = dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator"))


class Stop(Exception):
    """Ends a training before its first step."""


class Start(Hook):
    """Keep what a training starts with, and end it there."""

    priority = "LOWEST"

    def before_train(self, runner: Runner) -> None:
        self.weights = {k: v.clone() for k, v in runner.model.state_dict().items()}
        names = {id(p): n for n, p in runner.model.named_parameters()}
        optimizer = runner.optim_wrapper.optimizer
        self.states = {names[id(p)]: dict(s) for p, s in optimizer.state.items()}
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.place = (runner.epoch, runner.iter)
        raise Stop


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def begin(load_from: str | None, in_config: str | None = None, **options: Any) -> tuple[Start, str]:
    """What a training starts with, and its log."""
    cfg = tiny_digits(**WITHOUT_VAL, **options, load_from=in_config)
    runner = build_runner(cfg, work_dir="out", load_from=load_from)
    start = Start()
    runner.register_hook(start)
    with pytest.raises(Stop):
        train(runner)
    log = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
    return start, log


def refused(words: str, load_from: str, **options: Any) -> None:
    runner = build_runner(
        tiny_digits(**WITHOUT_VAL, **options), work_dir="out", load_from=load_from
    )
    with pytest.raises(UserError, match=words) as caught:
        train(runner)
    assert "\n" not in str(caught.value)


def below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_released_file_gives_both_networks_prototypes_and_optimizer() -> None:
    content = released(random_vit(in_chans=1))
    content["opt"], states = adam_by_name(random_vit(in_chans=1))
    torch.save(content, "msn.pth.tar")
    start, log = begin("msn.pth.tar", **HEAD)
    for prefix, network in (("", "encoder"), ("target_", "target_encoder")):
        found, wanted = below(start.weights, f"{prefix}backbone.vit."), content[network]
        for name in found.keys() - {"pos_embed"}:
            assert torch.equal(found[name], wanted[f"module.{name}"])
        learned = wanted["module.pos_embed"]
        side = SIZE // 8
        patches = resample_positions(learned[:, 1:], (side, side), (4, 4), "scale")
        assert torch.equal(found["pos_embed"], torch.cat([learned[:, :1], patches], dim=1))
        norm = start.weights[f"{prefix}head.projector.4.running_var"]
        assert torch.equal(norm, wanted["module.fc.bn2.running_var"])
    assert torch.equal(start.weights["head.prototypes"], content["prototypes"])
    # the positions' moments belong to the other grid
    assert len(start.states) == len(states) - 1
    assert "backbone.vit.pos_embed" not in start.states
    for here, there in {
        "backbone.vit.blocks.1.mlp.fc2.weight": "blocks.1.mlp.fc2.weight",
        "head.projector.4.bias": "fc.bn2.bias",
        "head.prototypes": "prototypes",
    }.items():
        assert same(start.states[here], states[there])
    assert f"optimizer state of {len(states) - 1} parameters" in log
    assert "initialised: nothing" in log
    assert "ignored: optimizer state of backbone.vit.pos_embed\n" in log
    fresh, _ = begin(None, **HEAD)
    assert start.rates == fresh.rates
    assert start.place == (0, 0)


def test_what_a_checkpoint_lacks_is_as_without_it() -> None:
    dino = random_vit(in_chans=1).state_dict()
    torch.save({"teacher": {f"backbone.{k}": v for k, v in dino.items()}}, "dino.pth")
    start, log = begin("dino.pth")
    fresh, _ = begin(None)
    for name, value in start.weights.items():
        inner = name.removeprefix("target_").removeprefix("backbone.vit.")
        if inner in dino and inner != "pos_embed":
            assert torch.equal(value, dino[inner]), name
        elif "head" in name:
            assert torch.equal(value, fresh.weights[name]), name
    assert not start.states
    assert "initialised: head.prototypes, head.projector, target_head.projector, optimizer" in log
    assert "format 'dino'" in log
    assert "model.backbone.resampling=dino" in log


@pytest.mark.parametrize("to", ["msn_mm", "hf"])
def test_written_files_and_directories_are_what_they_were_written_from(to: str) -> None:
    torch.save(released(random_vit(in_chans=1)), "msn.pth.tar")
    path = {"msn_mm": "a.safetensors", "hf": "folder"}[to]
    write(convert(read_source("msn.pth.tar"), arch={"heads": 3}), path, to)
    direct, _ = begin("msn.pth.tar", **HEAD)
    start, _ = begin(path, **HEAD)
    assert same(start.weights, direct.weights)
    assert start.states.keys() == direct.states.keys()
    assert all(same(start.states[name], state) for name, state in direct.states.items())


def test_an_own_checkpoint_gives_everything_that_fits() -> None:
    small = {"train_dataloader.dataset.dataset.indices": 32}
    cfg = tiny_digits(**WITHOUT_VAL, **small, **{"train_cfg.max_epochs": 2})
    first = build_runner(cfg, work_dir="first")
    train(first)
    optimizer = first.optim_wrapper.optimizer
    names = {id(p): n for n, p in first.model.named_parameters()}
    states = {names[id(p)]: s for p, s in optimizer.state.items()}
    start, log = begin("first/epoch_2.pth", **small)
    assert same(start.weights, first.model.state_dict())
    assert start.states.keys() == states.keys()
    assert all(same(start.states[name], state) for name, state in states.items())
    assert start.place == (0, 0)
    assert "initialised: nothing" in log
    # as a setting of the config, and with another head and grid
    other = {"model.head.num_prototypes": 12, "model.backbone.img_size": 48}
    start, log = begin(None, "first/epoch_2.pth", **small, **other)
    fresh, _ = begin(None, **small, **other)
    assert torch.equal(start.weights["head.prototypes"], fresh.weights["head.prototypes"])
    assert start.weights["target_backbone.vit.pos_embed"].shape[1] == 37
    assert states.keys() - start.states.keys() == {"head.prototypes", "backbone.vit.pos_embed"}
    assert "initialised: head.prototypes\n" in log
    assert "ignored: head.prototypes, optimizer state of backbone.vit.pos_embed, " in log


def test_another_architecture_is_one_line() -> None:
    torch.save(released(random_vit(in_chans=1)), "msn.pth.tar")
    refused(
        "depth 2 there and 3 here; .*model.backbone.depth=2",
        "msn.pth.tar",
        **{"model.backbone.depth": 3},
    )
    refused(
        r"a ViT of width 24.*num_heads 3 there and 2 here",
        "folder.safetensors",
        **_written_with_heads("folder.safetensors"),
    )
    torch.save(random_vit(in_chans=1, init_values=1e-5).state_dict(), "scaled.pth")
    refused(
        r"has 'vit\.blocks\.0\.ls1\.gamma', which .* model\.backbone\.init_values=1e-05",
        "scaled.pth",
    )
    with pytest.raises(UserError, match=r"no such checkpoint: 'absent\.pth'"):
        build_runner(tiny_digits(), work_dir="out", load_from="absent.pth")
    with pytest.raises(UserError, match="give one"):
        build_runner(tiny_digits(), work_dir="out", load_from="msn.pth.tar", resume=True)


def _written_with_heads(path: str) -> dict[str, Any]:
    write(convert(read_source("msn.pth.tar"), arch={"heads": 3}), path, "msn_mm")
    return {"model.backbone.num_heads": 2}


class ResNetModel(nn.Module):
    """A model of another method, with a ResNet."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def test_a_resnet_starts_from_torchvisions_names() -> None:
    small = ResNetArchitecture((1, 1, 1, 1), "basic", base_channels=8, stem_channels=8)
    source, model = small.build(), ResNetModel(small.build())
    state = {**source.state_dict(), "fc.weight": torch.ones(5, 64), "fc.bias": torch.ones(5)}
    found = starting_weights(RawCheckpoint("r.pth", state), model)
    assert same(below(found.weights, "backbone."), source.state_dict())
    assert found.ignored == ["classifier.weight", "classifier.bias"]
    deeper = ResNetModel(ResNetArchitecture((1, 2, 1, 1), "basic", 8, 8).build())
    with pytest.raises(UserError, match=r"has no 'layer2\.1\.bn1\.bias'"):
        starting_weights(RawCheckpoint("r.pth", state), deeper)
    with pytest.raises(UserError, match="Linear has no backbone"):
        starting_weights(RawCheckpoint("r.pth", state), nn.Linear(2, 2))


def saved_start(work_dir: str, launcher: str, wrapper: str | None) -> str:
    """Save what a training from the released file starts with, and end it."""
    from msn_mm.engine.launch import build_runner, train

    cfg = tiny_digits(**WITHOUT_VAL, **HEAD)
    if wrapper is not None:
        cfg.model_wrapper_cfg = dict(type=wrapper)
    runner = build_runner(cfg, launcher=launcher, work_dir=work_dir, load_from="msn.pth.tar")
    start = Hook()
    start.priority = "LOWEST"

    def save(runner: Runner) -> None:
        runner.save_checkpoint(work_dir, "start.pth")
        raise Stop

    start.before_train = save  # type: ignore[method-assign]
    runner.register_hook(start)
    with pytest.raises(Stop):
        train(runner)
    return type(runner.model).__name__


@pytest.mark.slow
def test_shards_and_copies_start_as_one_process_does(tmp_path: Path) -> None:
    torch.save(released(random_vit(in_chans=1)), "msn.pth.tar")
    saved_start("one", "none", None)
    runs = [("shards", "pytorch", "FullyShardedModel"), ("copies", "pytorch", None)]
    for kinds in on_two(saved_start, *runs, folder=tmp_path):
        assert kinds == ["FullyShardedModel", "MMDistributedDataParallel"]
    one = torch.load("one/start.pth", weights_only=True)
    assert one["optimizer"]["state"]
    for other in ("shards", "copies"):
        two = torch.load(f"{other}/start.pth", weights_only=True)
        assert same(one["state_dict"], two["state_dict"])
        for number, state in one["optimizer"]["state"].items():
            assert same(state, two["optimizer"]["state"][number])


def test_the_tool_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(ROOT / "tools" / "train.py"))["main"]
    tiny_digits(**WITHOUT_VAL, **{"train_dataloader.dataset.dataset.indices": 32}).dump("tiny.py")
    torch.save(random_vit(in_chans=1).state_dict(), "vit.pth")
    assert (
        main(
            [
                "tiny.py",
                "--load-from",
                "vit.pth",
                "--out",
                "o",
                "--cfg-options",
                "train_cfg.max_epochs=2",
            ]
        )
        == 0
    )
    assert "starting from vit.pth" in capsys.readouterr().out
