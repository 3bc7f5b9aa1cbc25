"""From a config's path to a runner: names, options, places, mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import write_config

from msn_mm.engine import distributed
from msn_mm.engine.distributed import choose_device, init_distributed, slurm_environment
from msn_mm.engine.launch import build_runner, load_config, train
from msn_mm.errors import UserError
from msn_mm.utils import config_files
from msn_mm.utils.config_files import resolve_config_path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two shipped configs in a package that is installed elsewhere."""
    directory = tmp_path / "package" / "configs"
    (directory / "_base_").mkdir(parents=True)
    for name in ("msn_vits16.py", "msn_vitl7.py"):
        (directory / name).write_text("value = 1\n")
    monkeypatch.setattr(config_files, "config_directories", lambda: [directory])
    monkeypatch.chdir(tmp_path)
    return directory


@pytest.mark.parametrize("name", ["configs/msn_vits16.py", "msn_vits16.py", "msn_vits16"])
def test_a_shipped_config_is_found_from_anywhere(shipped: Path, name: str) -> None:
    assert resolve_config_path(name) == shipped / "msn_vits16.py"


def test_a_file_as_given_comes_first(shipped: Path) -> None:
    own = Path("msn_vits16.py")
    own.write_text("value = 2\n")
    assert resolve_config_path("msn_vits16.py") == own


def test_an_unknown_config_names_the_nearest(shipped: Path) -> None:
    with pytest.raises(UserError, match=r"'msn_vits61.py'. Did you mean 'configs/msn_vits16.py'"):
        load_config("msn_vits61.py")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = dict(", "line 1: SyntaxError"),
        ("model = dict(type=undefined)", "NameError: name 'undefined'"),
        ("_base_ = ['./gone.py']", "FileNotFoundError"),
        ("trian_cfg = dict()", "unknown key 'trian_cfg'. Did you mean 'train_cfg'"),
    ],
)
def test_a_broken_config_is_told_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        load_config(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"train_cfg.max_epoch": 3}, "no 'max_epoch'. Did you mean 'max_epochs'"),
        ({"modle.width": 3}, "no 'modle'. Did you mean 'model'"),
        ({"model.widht": 3}, r"\(ToyModel\) has no 'widht'. Did you mean 'width'"),
        ({"global_batch_sizes": 3}, "Did you mean 'global_batch_size'"),
        ({"optim_wrapper.optimizer.lrr": 1}, r"\(AdamW\) has no 'lrr'. Did you mean 'lr'"),
        ({"train_dataloader.num_wokers": 2}, "Did you mean 'num_workers'"),
        ({"custom_hooks.0.windw": 3}, "Did you mean 'window'"),
        ({"batch_size": 3}, "no 'batch_size'. Did you mean '[a-z]+_batch_size'"),
        ({"max_epochs": 3}, "no 'max_epochs'. Did you mean 'train_cfg.max_epochs'"),
        ({"optim_wrapper.optimizr.lr": 1}, "Did you mean 'optim_wrapper.optimizer'"),
        ({"model": "ToyModel"}, r"dict in the config; set what is in it, such as model.type="),
        ({"model": 0.3}, "it is a dict in the config"),
        ({"optim_wrapper.optimizer.lr": "abc"}, r"lr=abc: it is a number in the config \(0"),
        ({"custom_hooks.4.window": 3}, "give an index from 0 to 0, not '4'"),
        ({"model.width.x": 3}, "'model.width' is a plain value"),
    ],
)
def test_an_unknown_option_names_the_nearest_key(
    config: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        load_config(config, options)


def test_options_that_something_takes_are_merged(config: Path) -> None:
    options = {
        "train_cfg.max_epochs": 7,
        "optim_wrapper.optimizer.amsgrad": True,
        "optim_wrapper.clip_grad.max_norm": 3.0,
        "custom_hooks.0.window": 9,
        "load_from": "somewhere.pth",
    }
    cfg = load_config(config, options)
    assert cfg.train_cfg.max_epochs == 7
    assert cfg.optim_wrapper.optimizer.amsgrad is True
    assert cfg.optim_wrapper.clip_grad == {"max_norm": 3.0}
    assert cfg.custom_hooks[0].window == 9
    assert cfg.load_from == "somewhere.pth"


def test_data_root_reaches_the_data_set(config: Path) -> None:
    assert "data_root" not in load_config(config).train_dataloader.dataset
    cfg = load_config(config, {"data_root": "my/images"})
    assert cfg.train_dataloader.dataset.data_root == "my/images"


def test_a_runner_is_resolved_and_the_config_left_alone(config: Path, tmp_path: Path) -> None:
    cfg = load_config(config, {"global_batch_size": 8, "accumulation": 2})
    before = cfg.pretty_text
    runner = build_runner(cfg, work_dir=tmp_path / "out", seed=11)
    assert cfg.pretty_text == before
    assert runner.cfg.train_dataloader.batch_size == 4
    assert runner.cfg.optim_wrapper.optimizer.lr == pytest.approx(0.02)
    assert runner.seed == 11
    log = next((tmp_path / "out").rglob("*.log")).read_text()
    assert "batch norm, Sinkhorn and the mean prediction see only the 4 images" in log


def test_the_default_directory_is_named_after_the_config(
    config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    runner = build_runner(load_config(config))
    assert Path(runner.work_dir) == tmp_path / "work_dirs" / "toy"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model.type": "ToyModle"}, "no model is registered as 'ToyModle'. Did you mean 'ToyMod"),
        ({"model.width": -3}, "ToyModel: width must be positive, not -3"),
        ({"optim_wrapper.optimizer.lr": -1.0}, "AdamW: Invalid learning rate"),
        ({"train_dataloader.dataset": {"type": "ToyData", "lenght": 3}}, "Did you mean 'length'"),
        ({"custom_hooks": [{"window": 3}]}, "a hook in the config has no 'type'"),
        ({"train_dataloader.dataset.length": 3}, "3 images, fewer than one batch"),
        ({"global_batch_size": 1}, "leaves 1 image a process"),
        ({"param_scheduler.0.begin": 2}, "begins at epoch 2, but training ends after 2: raise"),
    ],
)
def test_a_mistake_met_while_building_is_one_line(
    config: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    cfg = load_config(config, options)
    with pytest.raises(UserError, match=words):
        train(build_runner(cfg, work_dir=tmp_path / "out"))


def test_a_bug_keeps_its_own_exception(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toy_training import ToyModel

    def broken(self: Any, width: int = 8, dropout: float = 0.5) -> None:
        dict(nothing=1)["something"]

    monkeypatch.setattr(ToyModel, "__init__", broken)
    with pytest.raises(KeyError, match="something"):
        build_runner(load_config(config), work_dir=tmp_path / "out")


def test_amp_asks_for_the_wrapper_that_can(config: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--amp works with"):
        build_runner(load_config(config), work_dir=tmp_path / "out", amp=True)


def test_more_processes_than_gpus_fail_at_once() -> None:
    assert choose_device(local_rank=1, local_size=2, gpus=0) == torch.device("cpu")
    assert choose_device(local_rank=1, local_size=2, gpus=2) == torch.device("cuda", 1)
    assert choose_device(3, 4, gpus=1, own_gpu=True) == torch.device("cuda", 0)
    with pytest.raises(UserError, match="4 processes on a machine with 2 GPUs: start at most 2"):
        choose_device(local_rank=0, local_size=4, gpus=2)


def test_a_launch_without_its_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_PROCID", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"no RANK: start with tools/dist_train.sh"):
        init_distributed("pytorch")
    with pytest.raises(UserError, match=r"no SLURM_PROCID: start with tools/slurm_train.sh"):
        init_distributed("slurm")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UserError, match="add --launcher pytorch"):
        init_distributed("none")


def test_slurm_is_read_as_torchrun_would_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {
        "SLURM_PROCID": "9",
        "SLURM_NTASKS": "11",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "2",
        "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
        "SLURM_JOB_ID": "41234",
        "SLURM_NODELIST": "gpu[01-03]",
    }
    monkeypatch.setattr(distributed, "_first_host", lambda _: "gpu01")
    assert slurm_environment(environ) == {
        "RANK": "9",
        "WORLD_SIZE": "11",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "3",
        "MASTER_ADDR": "gpu01",
        "MASTER_PORT": str(20000 + 41234 % 20000),
    }


def test_a_lent_name_is_no_setting_and_its_copies_change_alone(tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text("_part = dict(window=3, ops=[dict(p=0.5)])\n")
    own = tmp_path / "own.py"
    own.write_text("_base_ = ['part.py']\nenv_cfg = dict(one=_base_._part, two=_base_._part)\n")
    cfg = load_config(own, {"env_cfg.one.window": 9})
    assert list(cfg) == ["env_cfg"]
    cfg.env_cfg.two.ops[0].p = 1.0
    assert cfg.env_cfg.to_dict() == {
        "one": {"window": 9, "ops": [{"p": 0.5}]},
        "two": {"window": 3, "ops": [{"p": 1.0}]},
    }
    with pytest.raises(UserError, match="the config has no '_part'"):
        load_config(own, {"_part.window": 9})


def test_what_custom_imports_cannot_import_is_told_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "broken_losses.py").write_text("import numpi\n")
    for module, missing in (("broken_losses", "numpi"), ("absent_losses", "absent_losses")):
        path = tmp_path / f"{module}_config.py"
        path.write_text(f"custom_imports = dict(imports=['{module}'])\n")
        with pytest.raises(UserError, match=f"No module named '{missing}'; of custom_imports") as e:
            load_config(path)
        assert "\n" not in str(e.value)
