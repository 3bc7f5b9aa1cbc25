"""The guides' commands, run in one process at tiny size."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from msn_mm.__main__ import main as msn_mm_command
from msn_mm.auto_pretraining import speed
from msn_mm.engine.launch import load_config
from msn_mm.evaluation.finetuning import check_classifier, is_classifier
from msn_mm.utils.dry_run import make_plan
from msn_mm.utils.protocol_options import NO_CHECKPOINT
from tests.guides.blocks import ROOT, Block

PRINT = print
FROZEN_TOOLS = {"lowshot", "knn", "transfer", "masking", "extract"}
IMAGE_CONFIG = [
    "model.backbone.embed_dim=24",
    "model.backbone.depth=1",
    "model.backbone.num_heads=3",
    "model.head.hidden_dim=16",
    "model.head.output_dim=8",
    "model.head.num_prototypes=8",
]
SHORT = [
    "train_cfg.val_interval=1",
    "param_scheduler.0.end=1",
    "param_scheduler.1.begin=0",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "train_dataloader.pin_memory=False",
]


@dataclass
class Workplace:
    """A directory like a user's clone, in which the guides' commands run."""

    root: Path
    capture: Callable[[], str]
    done: dict[str, str] = field(default_factory=dict)

    def run(self, command: str) -> str:
        """Run a command once, at tiny size, and return what it printed."""
        if command not in self.done:
            self.capture()
            words = shlex.split(command, comments=True)
            environ = dict(w.split("=", 1) for w in words if re.match(r"[A-Z_]+=", w))
            self._run(words[len(environ) :], environ)
            self.done[command] = self.capture()
        return self.done[command]

    def _run(self, words: list[str], environ: dict[str, str]) -> None:
        match words:
            case ["make", target]:
                self._make(target)
            case ["source", script]:
                assert f"{script.removesuffix('/bin/activate')}\n" in (
                    ROOT / "Makefile"
                ).read_text().replace(")", "\n")
            case ["tensorboard", "--logdir", directory]:
                assert importlib.util.find_spec("tensorboard")
                assert list((self.root / directory).rglob("events.out.tfevents.*"))
            case ["tools/dist_train.sh", config, processes, *rest]:
                self._plan([config, *rest, "--processes", processes])
            case ["tools/slurm_train.sh", _, _, config, *rest]:
                self._plan([config, *rest, "--processes", environ.get("GPUS", "8")])
            case ["python", "tools/train.py", *rest]:
                self._train(rest)
            case ["python", "tools/finetune.py", *rest]:
                self._finetune(rest)
            case ["python", "tools/test.py", *rest]:
                self._test(rest)
            case ["python", "tools/demo.py", *rest]:
                self._demo(rest)
            case ["python", "tools/benchmark.py", *rest]:
                self._benchmark(rest)
            case ["python", "tools/linear.py", *rest]:
                self._linear(rest)
            case ["python", tool, *rest] if Path(tool).stem in FROZEN_TOOLS:
                self._measure(Path(tool).stem, rest)
            case ["python", "tools/sweep.py", *rest]:
                assert _tool("sweep")["main"]([*rest, "--dry-run"]) == 0
            case ["python", "tools/show_views.py", *rest]:
                assert _tool("show_views")["main"](rest) == 0
            case ["python", "tools/report.py", *rest]:
                quick = ["--workers", "0", "--max-images", "20", "--map", "pca"]
                assert _tool("report")["main"]([*rest, *quick]) == 0
            case ["python", "benchmarks/planning_table.py"]:
                pass  # tests/test_planning_table.py compares it with the guide
            case ["python", "tools/partial.py", *rest]:
                self._partial(rest)
            case ["python", "tools/robustness.py", *rest]:
                self._robustness(rest)
            case ["python", "tools/rcdm.py", command, *rest]:
                self._rcdm(command, rest)
            case ["msn-mm", command, *rest]:
                self._command(command, rest)
            case ["python", "tools/convert.py", source, *rest]:
                self.stand_in(source)
                assert _tool("convert")["main"]([source, *rest]) == 0
            case ["torchrun", "--nproc_per_node", _, tool, *rest]:
                self._measure(Path(tool).stem, rest)
            case _:
                pytest.fail(f"no way to try {words}: add one, or mark the block as not run")

    def _make(self, target: str) -> None:
        shown = subprocess.run(
            ["make", "--no-print-directory", "-n", target],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert shown.returncode == 0, shown.stderr
        if target == "demo":
            assert shown.stdout.rstrip().endswith("tools/demo.py")
            self._demo([])
        else:
            runs = {"lint": "ruff check", "clean": "rm -rf", "zoo-demo": "tools/sweep.py"}
            runs["rcdm-demo"] = "tools/rcdm.py demo"
            runs["docs"] = "sphinx"
            assert runs.get(target, "pytest") in shown.stdout

    def _benchmark(self, argv: list[str]) -> None:
        args = _tool("benchmark")["parse_args"](argv)
        tiny = [*self._tiny(args.config), *SHORT[3:], "global_batch_size=16"]
        few = ["--steps", "1", "--cfg-options", *tiny]
        assert _tool("benchmark")["main"]([*argv, *few]) == 0

    def _plan(self, argv: list[str]) -> None:
        if "--load-from" in argv:  # a plan starts from nothing
            place = argv.index("--load-from")
            argv = argv[:place] + argv[place + 2 :]
        assert _tool("train")["main"](argv if "--dry-run" in argv else [*argv, "--dry-run"]) == 0

    def _train(self, argv: list[str]) -> None:
        if "--dry-run" in argv:
            self._plan(argv)
            return
        args = _tool("train")["parse_args"](argv)
        cfg = load_config(args.config, args.cfg_options)
        if args.cfg_options.keys() - {"data_root"}:
            make_plan(cfg)  # as written, before the tiny options hide it
        if "encoder" in cfg.model:
            self.stand_in(cfg.model.encoder.checkpoint)
            few = [f"{part}_dataloader.dataset.dataset.indices=300" for part in ("train", "val")]
            tiny = [*few, "train_cfg.max_epochs=1", "train_cfg.val_interval=1"]
            assert _tool("train")["main"]([*argv, "--cfg-options", *tiny]) == 0
            return
        # A resumed run has to have something left to do.
        epochs = f"train_cfg.max_epochs={2 if '--resume' in argv else 1}"
        tiny = [*self._tiny(argv[0]), *SHORT, epochs]
        assert _tool("train")["main"]([*argv, "--cfg-options", *tiny]) == 0

    def _finetune(self, argv: list[str]) -> None:
        args = _tool("finetune")["parse_args"](argv)
        cfg = load_config(args.config, args.cfg_options)
        check_classifier(cfg)
        if "digits" not in args.config:
            make_plan(cfg)  # its data are not at hand
            return
        self.stand_in(args.checkpoint)
        # A subset names images of the few that the tiny protocol had.
        images = 300 if any("subset_file" in key for key in args.cfg_options) else 64
        few = [f"train_dataloader.dataset.dataset.indices={images}", "train_cfg.max_epochs=1"]
        short = ["param_scheduler.0.end=1", "param_scheduler.1.begin=0"]
        assert _tool("finetune")["main"]([*argv, "--cfg-options", *few, *short]) == 0

    def _test(self, argv: list[str]) -> None:
        args = _tool("test")["parse_args"](argv)
        cfg = load_config(args.config, args.cfg_options)
        assert Path(args.checkpoint).stem == f"epoch_{cfg.train_cfg.max_epochs}"
        self.stand_in(args.checkpoint)
        if is_classifier(cfg):
            assert _tool("test")["main"](argv) == 0
            return
        part = "test" if cfg.get("test_evaluator") else "val"
        tiny = [*self._tiny(args.config, train=False), f"{part}_evaluator.splits=2"]
        more = [*tiny, f"{part}_dataloader.num_workers=0"]
        assert _tool("test")["main"]([*argv, "--cfg-options", *more]) == 0

    def _measure(self, tool: str, argv: list[str]) -> None:
        args = _tool(tool)["parse_args"](argv)
        cfg = load_config(args.config, args.cfg_options)
        checkpoints = getattr(args, "checkpoints", None) or [args.checkpoint]
        named = [word for word in checkpoints if word != NO_CHECKPOINT]
        assert {Path(word).stem for word in named} <= {f"epoch_{cfg.train_cfg.max_epochs}"}
        if "digits" not in args.config:
            # Its data are not at hand; that its config names them has to do.
            assert cfg.test_dataloader.dataset.type == "LabelledImages"
            return
        for word in named:
            self.stand_in(word)
        if "configs/eval/raw_pixels.py" in argv:
            argv[argv.index("--splits") + 1] = "2"  # 3,072 numbers an image take their time
        tiny = self._tiny(args.config, train=False)
        assert _tool(tool)["main"]([*argv, "--workers", "0", "--cfg-options", *tiny]) == 0

    def _linear(self, argv: list[str]) -> None:
        args = _tool("linear")["parse_args"](argv)
        for checkpoint in set(args.checkpoints) - {NO_CHECKPOINT}:
            self.stand_in(checkpoint)
        tiny = ["--epochs", "1", "--workers", "0", "--cfg-options"]
        tiny += self._tiny(args.config, train=False)
        assert _tool("linear")["main"]([*argv, *tiny]) == 0

    def _partial(self, argv: list[str]) -> None:
        args = _tool("partial")["parse_args"](argv)
        for word in args.checkpoints:
            if word != NO_CHECKPOINT:
                self.stand_in(word)
        short = ["--epochs", "1", "--lrs", "0.001", "--views", "1", "--splits", "1"]
        tiny = ["--workers", "0", "--cfg-options", *self._tiny(args.config, train=False)]
        assert _tool("partial")["main"]([*argv, *short, *tiny]) == 0

    def _robustness(self, argv: list[str]) -> None:
        args = _tool("robustness")["parse_args"](argv)
        if "digits" in args.config:
            for checkpoint in args.checkpoints:
                self.stand_in(checkpoint)
            tiny = ["--corruptions", "brightness", "--severities", "1", "--workers", "0"]
            few = ["--cfg-options", "val_dataloader.dataset.dataset.indices=100"]
            with pytest.MonkeyPatch.context() as patch:
                # numba, which the corruptions bring along, knows no other than the real one.
                patch.setattr("builtins.print", PRINT)
                assert _tool("robustness")["main"]([*argv, *tiny, *few]) == 0
            return
        # Its data and published weights are not at hand; that all it names exists has to do.
        rows = [(args.config, args.checkpoints), *((row[0], row[1:2]) for row in args.row)]
        for config, checkpoints in rows:
            cfg = load_config(config)
            assert checkpoints == [NO_CHECKPOINT] and cfg.checkpoint.source
            assert cfg.test_dataloader.dataset.transform.type == "EvalCrop"

    def _demo(self, argv: list[str]) -> None:
        args = _tool("demo")["parse_args"](argv)
        load_config(args.config, args.cfg_options)
        tiny = [*self._tiny(args.config), *SHORT, "train_cfg.max_epochs=1"]
        assert _tool("demo")["main"]([*argv, "--splits", "2", "--cfg-options", *tiny]) == 0

    def _rcdm(self, command: str, argv: list[str]) -> None:
        args = _tool("rcdm")["parse_args"]([command, *argv])
        if command == "demo":
            load_config(args.compare[0])
            return
        if "digits" not in args.config:
            # Its data and weights are not at hand; that its configs are there has to do.
            load_config(args.config, args.cfg_options)
            load_config(getattr(args, "backbone_config", None) or args.config)
            return
        tiny = ["model.image_size=8", "model.unet.channels=(8,8,8)", "model.unet.head_dim=8"]
        if command == "train":
            self.stand_in(args.backbone)
            few = ["train_dataloader.dataset.dataset.indices=64", "train_cfg.max_epochs=2"]
            assert _tool("rcdm")["main"]([command, *argv, "--cfg-options", *tiny, *few]) == 0
            return
        for checkpoint in getattr(args, "checkpoints", None) or [args.checkpoint]:
            self.stand_in(checkpoint)
        short = ["--steps", "2", "--samples", "2", "--cfg-options", *tiny]
        few = [] if command == "interpolate" else ["--max-images", "2", "--mask-ratio", "0.5"]
        assert _tool("rcdm")["main"]([command, *argv, *few, *short]) == 0

    def _pretrain(self, argv: list[str]) -> None:
        """Of a few more images, for seconds instead of hours."""
        few, many = (self.root / "data" / name for name in ("my_images", "many_images"))
        if not many.exists():
            shutil.copytree(few, many)
            for k, file in enumerate([*few.rglob("*.*")] * 4):
                shutil.copy(file, many / f"{k}{file.suffix}")
        argv = [str(many) if word == "data/my_images" else word for word in argv]
        if "--from" in argv:
            self.stand_in(argv[argv.index("--from") + 1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(speed, "_MOST", 2)
            patch.setattr(speed, "_WARM_UP", 1)
            assert msn_mm_command(["pretrain", *argv, "--hours", "0.0003"]) == 0

    def _command(self, command: str, argv: list[str]) -> None:
        if command == "pretrain":
            self._pretrain(argv)
            return
        if command in ("fit", "label-suggest"):
            checkpoint = argv[argv.index("--checkpoint") + 1]
            if checkpoint.endswith(".pth"):
                self.stand_in(checkpoint)
        workers = [] if command in ("export", "image-stats") else ["--workers", "0"]
        assert msn_mm_command([command, *argv, *workers]) == 0

    def _tiny(self, config: str, train: bool = True) -> list[str]:
        """Options that make a config tiny; the digits' model is small enough as it is."""
        cfg = load_config(config)
        if cfg.train_dataloader.dataset.dataset.type == "Digits":
            few = [f"{part}_dataloader.dataset.support.indices=300" for part in ("val", "test")]
            return [*few, "train_dataloader.dataset.dataset.indices=64"] if train else few
        if is_classifier(cfg):
            loaders = ("val_dataloader.num_workers=0", "val_dataloader.persistent_workers=False")
            return [*IMAGE_CONFIG[:3], *loaders, "global_batch_size=4"]
        small = [
            "global_batch_size=4",
            "train_dataloader.dataset.transform.views.focal.num=1",
        ]
        if cfg.train_dataloader.dataset.dataset.type == "ImageFolder":
            own = str(cfg.get("data_root"))
            small.append(f"data_root={own if Path(own).is_dir() else 'data/my_images'}")
        if cfg.get("val_dataloader"):
            small += ["val_dataloader.num_workers=0", "val_evaluator.splits=2"]
        return [*IMAGE_CONFIG, *(small if train else [])]

    def stand_in(self, checkpoint: str) -> None:
        """Let the newest checkpoint of a tiny run stand for one that a guide names."""
        named = self.root / checkpoint
        if not named.exists():
            newest = max(named.parent.glob("epoch_*.pth"), key=lambda path: path.stat().st_mtime)
            shutil.copy(newest, named)

    def write_config(self, block: Block) -> str:
        """Write a config block where it says that it belongs."""
        assert block.config is not None
        (self.root / block.config).write_text(block.text)
        return block.config


def _tool(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "tools" / f"{name}.py"))
