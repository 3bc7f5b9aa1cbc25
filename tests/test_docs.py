"""Every command, every piece of Python and every path in the guides, tried out at tiny size."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from msn_mm.__main__ import main as msn_mm_command
from msn_mm.auto_pretraining import speed
from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.evaluation.finetuning import check_classifier, is_classifier
from msn_mm.registry import MODELS
from msn_mm.utils.cli import parse_value
from msn_mm.utils.dry_run import make_plan
from msn_mm.utils.protocol_options import NO_CHECKPOINT
from tests.deep_files import write_sensor
from tests.packed import write_arrow, write_parquet, write_tars

ROOT = Path(__file__).resolve().parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(doc.relative_to(ROOT)) for doc in DOCS]
TEXT = {name: doc.read_text() for name, doc in zip(NAMES, DOCS, strict=True)}
README, SWAPPING = TEXT["README.md"], TEXT["docs/swapping_a_backbone.md"]
SHARED = Path(os.environ.get("MSN_MM_SHARED", ROOT.parent / "shared"))

# Optional libraries of whole guides.
NEEDS = {"docs/data_formats.md": ("webdataset", "pyarrow"), "docs/rcdm.md": ("diffusers",)}
# The config whose settings a guide's text names, where it is not MSN's.
SETTINGS_OF = {"docs/rcdm.md": "rcdm_digits"}
# `<!-- not run: why -->` in front of a block takes it out; more than two would be a habit.
MOST_NOT_RUN = 2
FROZEN_TOOLS = {"lowshot", "knn", "transfer", "masking", "extract"}
LANGUAGES = {"bash", "python", "text", "bibtex"}
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


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the HTML comment in front of it."""

    name: str
    line: int
    language: str
    text: str
    comment: str

    @property
    def config(self) -> str | None:
        """File that a config block says it is, in its first line."""
        found = re.match(r"# (configs/[\w/]+\.py)\n", self.text)
        return found[1] if self.language == "python" and found else None

    @property
    def trains(self) -> bool:
        """Whether the block is a config to train, not a row of a comparison or a list of runs."""
        others = ("configs/eval/", "configs/sweeps/")
        return self.config is not None and not self.config.startswith(others)

    @property
    def module(self) -> str | None:
        """File of the package or its tests that a block says it is, in its first line."""
        found = re.match(r"# ((?:msn_mm|tests)/[\w/]+\.py)\n", self.text)
        return found[1] if self.language == "python" and found else None

    @property
    def commands(self) -> list[str]:
        return [line for line in self.text.splitlines() if line.strip()]


def _blocks(name: str) -> list[Block]:
    found = re.finditer(
        r"(?:^<!-- (?P<comment>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
        TEXT[name],
        re.MULTILINE | re.DOTALL,
    )
    return [
        Block(
            name,
            TEXT[name][: m.start()].count("\n") + 1,
            m["language"],
            m["text"],
            m["comment"] or "",
        )
        for m in found
    ]


PRINT = print
BLOCKS = {name: _blocks(name) for name in NAMES}
ALL = [block for blocks in BLOCKS.values() for block in blocks]


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


def _write_images(root: Path) -> None:
    photos = [Image.fromarray(photo).resize((160, 120)) for photo in load_sample_images().images]
    folders = {"data/my_images/2023": 4, "data/my_images/deep/er": 4}
    for part in ("support", "query"):
        folders |= {f"data/my_labels/{part}/cat": 5, f"data/my_labels/{part}/dog": 5}
    for part in ("train", "test"):
        folders |= {f"data/my_transfer/{part}/cat": 5, f"data/my_transfer/{part}/dog": 5}
    if all(map(importlib.util.find_spec, NEEDS["docs/data_formats.md"])):
        _write_packed(root, photos)
    rng = np.random.default_rng(0)
    for number, (folder, count) in enumerate(folders.items()):
        (root / folder).mkdir(parents=True)
        for k in range(count):
            photo = photos[number % 2].rotate(float(rng.uniform(-20, 20)))
            photo.save(root / folder / f"{k}.{('jpg', 'PNG', 'webp')[k % 3]}")
    write_sensor(root / "data/my_scans", 8)
    names = sorted(path.name for path in (root / "data/my_images/2023").iterdir())
    labelled = [f"2023/{name},cat" for name in names] + ["deep/er/0.jpg,dog", "deep/er/1.PNG,dog"]
    (root / "data/my_labels.csv").write_text("\n".join(["path,label", *labelled]))


def _need_libraries(name: str) -> None:
    for library in NEEDS.get(name, ()):
        pytest.importorskip(library)


def _write_packed(root: Path, photos: list[Image.Image]) -> None:
    folder = root / "photos"
    folder.mkdir()
    for k in range(18):
        photos[k % 2].rotate(k).save(folder / f"{k:03}.jpg")
    images = sorted(folder.iterdir())
    write_tars(root / "data/shards", images[:9], each=3, labels=True)
    for part in ("support", "query"):
        shards = write_tars(root / "data/labelled_shards", images, each=6, labels=True)
        for shard in shards:
            shard.rename(shard.with_name(f"{part}-{shard.name}"))
    write_parquet(root / "data/parquet", images)
    write_parquet(root / "data/parquet", images[:3], split="test")
    write_arrow(root / "data/arrow", images)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    root = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "configs", root / "configs")
    _write_images(root)
    printed: list[str] = []

    def capture() -> str:
        text = "\n".join(printed)
        printed.clear()
        return text

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("LOCAL_RANK", "0")
        patch.setenv("MSN_MM_CACHE", str(root / "cache"))
        patch.setattr(
            "builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words)))
        )
        yield Workplace(root, capture)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_do_what_they_say(
    name: str, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of the guide, as its reader goes through it."""
    _need_libraries(name)
    scope: dict[str, Any] = {}
    said = ""
    for block in BLOCKS[name]:
        where = f"{name}, line {block.line}"
        assert block.language in LANGUAGES, f"{where}: ```{block.language}"
        if block.comment.startswith("not run:"):
            continue
        if block.language == "bash":
            for command in block.commands:
                said = place.run(command)
        elif block.config is not None:
            written = place.write_config(block)
            if block.trains:
                make_plan(load_config(written))
        elif block.module is not None:
            _live(block, monkeypatch)
        elif block.language == "python":
            for checkpoint in re.findall(r'"(work_dirs/[\w/]+\.pth)"', block.text):
                place.stand_in(checkpoint)
            exec(compile(block.text, where, "exec"), scope)
        elif block.comment == "output of the command above":
            for line in block.text.splitlines():
                assert line in said.splitlines(), f"{where}: {line}"


def _live(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Import a block as the module that it says it is; of a module of tests, run them."""
    name = str(block.module).removesuffix(".py").replace("/", ".")
    module = types.ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    known = set(MODELS.module_dict)
    exec(compile(block.text, f"{block.name}, line {block.line}", "exec"), vars(module))
    for added in set(vars(module)) & set(MODELS.module_dict) - known:
        # registered while the guide is read, and no longer
        monkeypatch.setitem(MODELS.module_dict, added, MODELS.module_dict.pop(added))
    tests = [test for key, test in vars(module).items() if key.startswith("test_")]
    assert bool(tests) == name.startswith("tests.")
    for test in tests:
        test()


def test_the_new_method_s_stochastic_depth_follows_the_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    block = next(b for b in BLOCKS["docs/new_method.md"] if b.module is not None)
    _live(block, monkeypatch)
    kind: Any = sys.modules[str(block.module).removesuffix(".py").replace("/", ".")]
    settings = dict(img_size=16, patch_size=8, embed_dim=24, depth=4, num_heads=3)
    model = kind.AlignUniform(dict(type="MaskedViT", drop_path_rate=0.5, **settings))
    images, keys = torch.randn(2, 8, 3, 16, 16), torch.arange(16).view(2, 8)
    views = {str(i): dict(images=images[i], key=keys[i]) for i in range(2)}
    first = model.loss(views)
    assert {k: v.item() for k, v in model.loss(views).items()} == pytest.approx(
        {k: v.item() for k, v in first.items()}, rel=1e-6
    )


def test_hardly_a_block_is_left_out() -> None:
    left_out = [block for block in ALL if block.comment.startswith("not run:")]
    assert len(left_out) <= MOST_NOT_RUN
    assert all(len(block.comment) > len("not run: ") for block in left_out)
    kinds = [block.language for block in ALL]
    assert kinds.count("bash") >= 20 and kinds.count("python") >= 5


TRAINED = re.findall(r"tools/train.py (configs/my_\w+\.py)", "".join(TEXT.values()))


@pytest.mark.parametrize(
    "block",
    [block for block in ALL if block.trains and block.config not in TRAINED],
    ids=lambda block: f"{block.name}-{block.line}",
)
def test_a_config_of_the_guides_trains(block: Block, place: Workplace) -> None:
    _need_libraries(block.name)
    place.run(f"python tools/train.py {place.write_config(block)}")
    results = place.root / "work_dirs" / Path(str(block.config)).stem / "results.json"
    assert json.loads(results.read_text())["settings"]["iterations"] == 2


@pytest.mark.parametrize("name", ["README.md", "docs/swapping_a_backbone.md"])
def test_a_backbone_is_swapped_in_three_lines(name: str, place: Workplace) -> None:
    block = next(block for block in BLOCKS[name] if block.config)
    assert len(block.text.replace("\n\n", "\n").splitlines()) == 3
    plan = make_plan(load_config(place.write_config(block)))
    with torch.device("meta"):
        model = MODELS.build(plan.cfg.model)
    assert f'"{plan.cfg.model.backbone.name}"' in block.text
    assert model.backbone.embed_dim == model.head.in_dim == 192


def _rows() -> list[list[str]]:
    """Config, mask, epochs, tokens, low-shot and 1 % accuracy of the table of models."""
    lines = [line for line in README.splitlines() if line.startswith("| `configs/msn_vit")]
    return [[cell.strip("` ") for cell in line.strip("|").split("|")] for line in lines]


ROWS = _rows()


def test_the_table_of_models_is_complete() -> None:
    shown = {Path(row[0]).stem for row in ROWS}
    shipped = {path.stem for path in (ROOT / "configs").glob("msn_vit*.py")}
    variants = {name for name in shipped if name.endswith(("_released", "_fsdp"))}
    assert shown == shipped - variants - {"msn_vith14"}  # not of the paper


@pytest.mark.parametrize("row", ROWS, ids=lambda row: Path(row[0]).stem)
def test_the_table_of_models_tells_what_the_configs_hold(row: list[str]) -> None:
    config, mask, epochs, tokens = row[:4]
    plan = make_plan(load_config(config))
    assert plan.cfg.model.mask_ratio == {"anchor": float(mask)}
    assert plan.cfg.train_cfg.max_epochs == int(epochs.split()[0])
    assert [view.tokens for view in plan.views] == [int(number) for number in tokens.split(",")]


@pytest.mark.skipif(not (SHARED / "paper" / "tables.json").is_file(), reason="no tables here")
def test_the_table_of_models_quotes_the_paper() -> None:
    tables = json.loads((SHARED / "paper" / "tables.json").read_text())
    few = {
        key.split()[1]: value
        for key, value in tables["low_shot_images_per_class"].items()
        if key.startswith("MSN")
    }
    names = {"s": "ViT-S/", "b": "ViT-B/", "l": "ViT-L/"}
    for config, *_, low_shot, one_percent in ROWS:
        kind, patch, variant = re.fullmatch(
            r"msn_vit([sbl])(\d+)(_\w+)?", Path(config).stem
        ).groups()
        model = names[kind] + patch
        if low_shot:
            quoted = [float(x) for x in re.findall(r"\d+\.\d", low_shot)]
            assert quoted == [few[model][shots][0] for shots in ("1", "2", "5")]
        sinkhorn = tables["table11_sinkhorn_vits16_one_percent"]
        special = {
            "msn_vits16": sinkhorn["Sinkhorn, lambda 1"],
            "msn_vits16_nosinkhorn": sinkhorn["None, lambda 5"],
            "msn_vitl16": tables["masking_ratio_one_percent"]["ViT-L/16"]["0.5"],
        }
        if one_percent:
            stem = f"msn_vit{kind}{patch}{variant or ''}"
            published = special.get(stem) or tables["one_percent"][f"MSN {model}"]
            assert float(one_percent) == published


def test_the_released_recipe_differs_as_told() -> None:
    plan = make_plan(load_config("msn_vits16_released"))
    rate, decay, momentum = plan.schedules
    assert momentum.last == 0.9992 and decay.last < 0.4 and rate.last > 1e-5
    assert plan.cfg.optim_wrapper.clip_grad.max_norm == 3.0
    assert plan.cfg.model.shared_mask
    assert {s.stretch for s in plan.cfg.param_scheduler[1:]} == {1.25}
    assert plan.cfg.param_scheduler[1].eta_min == 1e-6


ERRORS = re.findall(r"^\| `(model\.[\w.=]+)` \| `(.*)` \|$", SWAPPING, re.MULTILINE)


@pytest.mark.parametrize(("option", "line"), ERRORS)
def test_errors_read_as_told(option: str, line: str) -> None:
    key, value = option.split("=")
    with pytest.raises(UserError) as error:
        make_plan(load_config("msn_vits16", {key: parse_value(value)}))
    assert line in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_settings_in_the_text_exist(name: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", TEXT[name], flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^\| `.*=.*$", "", prose, flags=re.MULTILINE)  # the table of errors
    top = r"(?:model|optim_wrapper|train_\w+|test_\w+|param_scheduler|accumulation|data_root)"
    for words in re.findall(rf"`(?:--cfg-options )?({top}[.=][^`]+)`", prose):
        for word in words.split():
            key, _, text = word.partition("=")
            config = SETTINGS_OF.get(name, "msn_digits")
            node: Any = load_config(config, {key: parse_value(text)} if text else {})
            for part in [] if text else key.split("."):
                node = node[int(part)] if part.isdigit() else node[part]


def test_logged_names_exist() -> None:
    source = "".join(path.read_text() for path in (ROOT / "msn_mm").rglob("*.py"))
    monitor = README.split("## The collapse monitor")[1].split("\n## ")[0]
    names = re.findall(r"^\| `(\w+)`", monitor, re.MULTILINE)
    assert len(names) == 7
    for name in names:
        assert re.search(rf'["/]{name}"', source), name


@pytest.mark.parametrize("name", NAMES)
def test_links_and_paths_lead_somewhere(name: str) -> None:
    here = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT[name]):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (here / path).resolve() if path else ROOT / name
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings]
            assert anchor in slugs, target
    written = {block.config or block.module for block in ALL}
    own = r"(?<![\w/.-])(?:configs|docs|msn_mm|tests|tools)/[\w./-]*"
    for path in re.findall(own, TEXT[name]):
        path = path.rstrip(".")
        assert (ROOT / path).exists() or path in written, path
