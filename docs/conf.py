"""The guides and the API reference as a site: `make docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

import msn_mm

ROOT = Path(__file__).resolve().parent.parent

project = "msn_mm"
author = "the msn_mm developers"
copyright = "the msn_mm developers, Apache-2.0"
release = version = msn_mm.__version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
extensions = [
    "reference",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
root_doc = "index"
# The list of guides is what GitHub shows of this folder; index.md takes it in.
exclude_patterns = ["README.md"]
nitpicky = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings: list[str] = []

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = True

html_theme = "furo"
html_title = f"msn_mm {release}"


def _within_the_site(text: str) -> str:
    """Let links to the README lead to its page, wherever the text with the link lies."""
    text = re.sub(r"\]\(\.\./README\.md(#[\w-]+)?\)", r"](overview.md\1)", text)
    text = text.replace("](docs/README.md)", "](index.md)")
    text = re.sub(r"\]\(docs/([\w.#-]+)\)", r"](\1)", text)
    return text.replace("](LICENSE)", "](../LICENSE)")


def _page(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = _within_the_site(source[0])


def _included(app: Sphinx, path: Path, parent: str, content: list[str]) -> None:
    content[0] = _within_the_site(content[0])


def setup(app: Sphinx) -> None:
    """Connect the link rules."""
    app.connect("source-read", _page)
    app.connect("include-read", _included)
