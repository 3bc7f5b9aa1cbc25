"""Every command and every piece of Python in the guides, tried out at tiny size."""

from __future__ import annotations

import json
import re
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from msn_mm.engine.launch import load_config
from msn_mm.registry import MODELS
from msn_mm.utils.dry_run import make_plan
from tests.guides.blocks import ALL, BLOCKS, NAMES, ROOT, TEXT, Block
from tests.guides.commands import Workplace
from tests.guides.data import PACKED, write_images

# Optional libraries of whole guides.
NEEDS = {"docs/data_formats.md": PACKED, "docs/rcdm.md": ("diffusers",)}
# `<!-- not run: why -->` in front of a block takes it out; more than two would be a habit.
MOST_NOT_RUN = 2
LANGUAGES = {"bash", "python", "text", "bibtex"}


def _need_libraries(name: str) -> None:
    for library in NEEDS.get(name, ()):
        pytest.importorskip(library)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    root = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "configs", root / "configs")
    write_images(root)
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
