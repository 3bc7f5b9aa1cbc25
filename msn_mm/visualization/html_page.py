"""One HTML file that needs nothing else: the skeleton and the style that all pages share.

A page works from a disk, without a network. What a user's files are called is
text like any other: :func:`escape` it, or hand it over as :func:`json_block`.
The page's policy lets no script run but the one that it was made with, should a
name slip through all the same.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["data_uri", "escape", "html_page", "json_block", "page_text"]


def html_page(title: str, body: str, style: str = "", script: str = "") -> str:
    """Return a whole page, light or dark as its reader's device is.

    Args:
        title: Plain text.
        body: HTML below the page's heading, which is ``title``.
        style: CSS of this page, after ``html_page.css``, whose variables it may use.
        script: JavaScript that runs once the body is there; it is the only one that may.
    """
    runs = f"'sha256-{_digest(script)}'" if script else "'none'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {runs}"
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',  # no browser asks for one then
        f"<title>{escape(title)}</title>",
        f"<style>\n{page_text('html_page.css')}{style}</style>",
        "</head>",
        "<body>",
        f"<h1>{escape(title)}</h1>",
        body,
        *([f"<script>{script}</script>"] if script else []),
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def page_text(name: str) -> str:
    """Return a style sheet or a script that lies beside this module."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def json_block(name: str, value: Any) -> str:
    """Return data for a page's script, which reads it from the element with that id.

    Args:
        name: The id.
        value: What JSON holds. Any text arrives as it is, control characters included.
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    # "</script>" and "<!--" would end it or change how it is read.
    text = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


def data_uri(content: bytes, kind: str) -> str:
    """Return a file's content as an address that needs no file.

    Args:
        content: The bytes.
        kind: MIME type, such as ``image/png``.
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
