"""What the guides' prose names: settings, logged quantities, errors, files, links."""

from __future__ import annotations

import re
from typing import Any

import pytest

from msn_mm.engine.launch import load_config
from msn_mm.errors import UserError
from msn_mm.utils.cli import parse_value
from msn_mm.utils.dry_run import make_plan
from tests.guides.blocks import ALL, NAMES, ROOT, TEXT

README, SWAPPING = TEXT["README.md"], TEXT["docs/swapping_a_backbone.md"]
# The config whose settings a guide's text names, where it is not MSN's.
SETTINGS_OF = {"docs/rcdm.md": "rcdm_digits"}
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
