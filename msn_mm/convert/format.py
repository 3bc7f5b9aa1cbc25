"""What a checkpoint format is: recognised by its keys, read into one canonical form."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from mmengine.registry import Registry
from torch import Tensor

from msn_mm.convert.architecture import Architecture
from msn_mm.datasets.pixel_window import Window
from msn_mm.errors import UserError

FORMATS = Registry("checkpoint format", locations=["msn_mm.convert.formats"])

_ODD = (
    *(TypeError, ValueError, KeyError, IndexError, ArithmeticError),
    *(AttributeError, RuntimeError, RecursionError),
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class RawCheckpoint:
    """A file as it is, loaded as data.

    Attributes:
        source: What the user named.
        content: Nested mappings with tensors and plain values at the leaves.
        config: ``config.json`` of a Hugging Face directory, else empty.
    """

    source: str
    content: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self, *path: str) -> dict[str, Tensor]:
        """Return the tensors of a nested mapping; empty when there is none at the path."""
        node: Any = self.content
        for key in path:
            node = node.get(key) if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping):
            return {}
        return {k: v for k, v in node.items() if isinstance(k, str) and isinstance(v, Tensor)}


@dataclass
class Converted:
    """A checkpoint in canonical form.

    Attributes:
        format: Name of the format it came from.
        architecture: What builds the trunk.
        trunk: The trunk's state dict, complete.
        classifier: ``weight`` (K, D) and ``bias`` (K,) of a classification head, or empty;
            with ``norm.weight`` and ``norm.bias`` (D,) where a LayerNorm (epsilon 1e-6) of its
            own comes before it, after the pooling.
        pooling: What the classifier reads: the CLS token or the mean of the patch tokens,
            both after the trunk's final norm, which is none where the classifier has its own.
        extras: What else is known by a canonical name: ``projector.*`` and
            ``prototypes`` of an MSN head; ``online.*``, trunk and projector of the
            network that the target follows; ``optimizer.<kind>.*``, Adam's state of
            the online network and the prototypes.
        settings: Plain values that belong to the extras: ``optimizer``, the settings of
            each group, and ``epoch``.
        used: How many of the file's tensors went into the above.
        ignored: Names of those that did not.
        missing: Names that the format usually has and this file lacks.
        mean: Per-channel mean that the images are normalised by, on [0, 1].
        std: Per-channel standard deviation, likewise.
        window: The range of an image's values that becomes [0, 1], in its file's
            units; ``None`` for all that 8 or 16 bits hold.
    """

    format: str
    architecture: Architecture
    trunk: dict[str, Tensor]
    classifier: dict[str, Tensor] = field(default_factory=dict)
    pooling: Literal["cls", "mean"] = "cls"
    extras: dict[str, Tensor] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    used: int = 0
    ignored: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    window: Window | None = None


class Format:
    """One checkpoint format; a subclass is registered by ``@FORMATS.register_module()``.

    Attributes:
        name: What users call it.
        priority: Formats are asked in descending order; a format whose keys
            contain another's comes before it.
        verified: Where the key list was checked against the original: a public
            file (repository, path, commit) or an installed package. Empty for
            a format that could not be confirmed.
    """

    name: ClassVar[str]
    priority: ClassVar[int] = 0
    verified: ClassVar[str] = ""

    def matches(self, raw: RawCheckpoint) -> bool:
        """Whether a file is of this format, judged by keys and shapes alone."""
        raise NotImplementedError

    def read(self, raw: RawCheckpoint, arch: Mapping[str, Any]) -> Converted:
        """Read a matching file.

        Args:
            raw: The file.
            arch: Settings that the user gives where weights do not tell them
                (``heads``, ``image_size``, ...).

        Raises:
            UserError: The file contradicts itself or lacks weights.
        """
        raise NotImplementedError


def formats() -> list[Format]:
    """Return all formats, the most particular first."""
    FORMATS.import_from_location()
    found = [kind() for kind in FORMATS.module_dict.values()]
    return sorted(found, key=lambda entry: (-entry.priority, entry.name))


def convert(
    raw: RawCheckpoint, name: str = "auto", arch: Mapping[str, Any] | None = None
) -> Converted:
    """Read a file in whatever format it is.

    Args:
        raw: The file.
        name: The format's name, or ``auto`` to recognise it.
        arch: See :meth:`Format.read`.

    Raises:
        UserError: No format knows the file, or it is of another than named.
    """
    known = formats()
    if name != "auto":
        known = [entry for entry in known if entry.name == name]
        if not known:
            names = ", ".join(entry.name for entry in formats())
            raise UserError(f"no checkpoint format '{name}'; there are {names}")
    with odd_files(raw.source):
        for entry in known:
            if entry.matches(raw):
                return entry.read(raw, arch or {})
    raise UserError(
        f"'{raw.source}' is no checkpoint of an image encoder that is known here (its keys begin "
        f"with {_first_keys(raw.content)}); docs/checkpoints.md lists the formats"
    )


@contextmanager
def odd_files(source: str) -> Iterator[None]:
    """Tell in one line what a foreign file's content runs into while it is read.

    Names and shapes come from the file, so any look at them may fail; the cause
    stays chained.

    Raises:
        UserError: Naming the file.
    """
    try:
        yield
    except UserError:
        raise
    except _ODD as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(
            f"'{source}' is not what it seems: its content cannot be read as its names say "
            f"({type(error).__name__}{': ' + text if text else ''})"
        ) from error


def rename(
    state: Mapping[str, Tensor], rule: Callable[[str], str | None]
) -> tuple[dict[str, Tensor], list[str]]:
    """Rename tensors.

    Args:
        state: Tensors by the file's names.
        rule: From the file's name to the canonical one, ``None`` for a tensor
            that has no place.

    Returns:
        The renamed tensors and the names left over.

    Raises:
        UserError: Two tensors would get one name.
    """
    renamed: dict[str, Tensor] = {}
    ignored = []
    for key, value in state.items():
        name = rule(key)
        if name is None:
            ignored.append(key)
        elif name in renamed:
            raise UserError(f"two tensors of the checkpoint mean '{name}', one of them '{key}'")
        else:
            renamed[name] = value
    return renamed, ignored


def strip_prefixes(state: Mapping[str, Tensor], prefixes: Iterable[str]) -> dict[str, Tensor]:
    """Remove prefixes such as ``module.`` that all tensors share, one after the other."""
    stripped = dict(state)
    for prefix in prefixes:
        if stripped and all(key.startswith(prefix) for key in stripped):
            stripped = {key.removeprefix(prefix): value for key, value in stripped.items()}
    return stripped


def count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return how many blocks ``<prefix><number>.`` a state dict has.

    Raises:
        UserError: A block in between is missing.
    """
    block = re.compile(re.escape(prefix) + r"([0-9]{1,6})\.")
    numbers = {int(found[1]) for key in state if (found := block.match(key))}
    if numbers != set(range(len(numbers))):
        gap = next(number for number in range(len(numbers)) if number not in numbers)
        raise UserError(f"the checkpoint has no block {gap} ('{prefix}{gap}.'); it is not whole")
    return len(numbers)


def load_trunk(converted: Converted, source: str) -> torch.nn.Module:
    """Build the trunk and load it, strictly.

    Raises:
        UserError: A weight is missing, left over or of another shape.
    """
    from msn_mm.evaluation.checkpoint import check_fit, load_weights

    with odd_files(source):
        with torch.device("meta"):  # no memory for what the file does not hold
            check_fit(converted.architecture.build(), converted.trunk, source)
        trunk = converted.architecture.build()
        load_weights(trunk, converted.trunk, source)
    return trunk.eval().requires_grad_(False)


def _first_keys(content: Mapping[str, Any], most: int = 3) -> str:
    names = [str(key) for key in content][:most]
    return ", ".join(f"'{name[:60]}'" for name in names) or "nothing"
