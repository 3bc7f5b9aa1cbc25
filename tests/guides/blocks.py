"""The guides' text and its fenced blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(doc.relative_to(ROOT)) for doc in DOCS]
TEXT = {name: doc.read_text() for name, doc in zip(NAMES, DOCS, strict=True)}


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


BLOCKS = {name: _blocks(name) for name in NAMES}
ALL = [block for blocks in BLOCKS.values() for block in blocks]
