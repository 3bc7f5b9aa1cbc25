"""Directives of the API reference, which name no component: the registries know them all."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from msn_mm import registry


class _Generated(SphinxDirective):
    """A directive that stands for lines of reStructuredText."""

    required_arguments = 1

    def lines(self) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        text = ["```{eval-rst}", *self.lines(), "```"]
        place = nodes.container()
        self.state.nested_parse(StringList(text, source=self.env.docname), 0, place)
        return place.children


class Registered(_Generated):
    """Everything that a registry of :mod:`msn_mm.registry` holds, by its docstrings.

    ``:below:`` takes those of one package only.
    """

    option_spec = {"below": directives.unchanged}

    def lines(self) -> list[str]:
        chosen = getattr(registry, self.arguments[0])
        chosen.import_from_location()
        below = self.options.get("below", "msn_mm")
        found = {f"{m.__module__}.{m.__qualname__}" for m in chosen.module_dict.values()}
        found = {name for name in found if name.startswith(f"{below}.")}
        if not found:
            raise self.error(f"nothing is registered as {self.arguments[0]} below {below}")
        return [
            line
            for name in sorted(found, key=lambda name: name.rsplit(".", 1)[1].lower())
            for line in (f".. autoclass:: {name}", "   :members:", "")
        ]


class Offered(_Generated):
    """What a package offers in its ``__all__``."""

    def lines(self) -> list[str]:
        package = import_module(self.arguments[0])
        calls = [name for name in package.__all__ if callable(getattr(package, name))]
        return [f".. autofunction:: {package.__name__}.{name}" for name in sorted(calls)]


class Functions(_Generated):
    """The public functions and classes of every module of a package."""

    def lines(self) -> list[str]:
        package = import_module(self.arguments[0])
        names = [f"{package.__name__}.{found.name}" for found in iter_modules(package.__path__)]
        return [line for name in names for line in (f".. automodule:: {name}", "   :members:", "")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("registered", Registered)
    app.add_directive("offered", Offered)
    app.add_directive("functions", Functions)
    return {"parallel_read_safe": True}
