"""The one file of a classifier: encoder, view, classifier, temperature and labelled images.

It is written by :func:`torch.save` and loads with ``weights_only=True``: tensors
and plain values, nothing that runs. A digest over all of it tells a damaged file.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from msn_mm.convert.format import Converted, RawCheckpoint, convert
from msn_mm.convert.formats.own import METADATA_KEY
from msn_mm.convert.source import METADATA
from msn_mm.convert.torch_file import read_tensor_file
from msn_mm.convert.writers.msn_mm import own_content
from msn_mm.datasets import EvalCrop
from msn_mm.errors import UserError
from msn_mm.utils.paths import user_path
from msn_mm.utils.results import writing_atomically

FORMAT, VERSION = "msn_mm.classifier", 1
# A view of more pixels a side is no classifier's, whatever a file says.
_LONGEST_SIDE = 4096


@dataclass(frozen=True)
class Content:
    """What the file holds.

    Attributes:
        encoder: Trunk and normalisation.
        view: What is cut out of an image.
        classes: K names.
        weights: ``(D, K)`` float64 of the linear classifier on normalised features.
        temperature: Of its scores.
        features: ``(n, D)`` float32 of the labelled images, as the encoder gives them.
        labels: ``(n,)`` int64, their classes.
        paths: n names, as the user calls the images.
        similarities: ``(n,)`` float64, see :class:`~msn_mm.few_labels.likeness.Likeness`.
        about: Settings, estimate and versions, plain values for people to read.
    """

    encoder: Converted
    view: EvalCrop
    classes: tuple[str, ...]
    weights: Tensor
    temperature: float
    features: Tensor
    labels: Tensor
    paths: tuple[str, ...]
    similarities: Tensor
    about: Mapping[str, Any]


def save_content(content: Content, path: Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        UserError: The place cannot be written, or the encoder is of a kind that it
            does not hold.
    """
    tensors, metadata = own_content(content.encoder)
    plain = {
        "format": FORMAT,
        "version": VERSION,
        # A trunk's tensors may be views of one another, or lie in its source's file.
        "encoder": {name: value.detach().cpu().clone() for name, value in tensors.items()},
        "encoder_metadata": metadata[METADATA_KEY],
        "view": content.view.settings(),
        "classes": list(content.classes),
        "weights": content.weights,
        "temperature": content.temperature,
        "features": content.features,
        "labels": content.labels,
        "paths": list(content.paths),
        "similarities": content.similarities,
        "about": dict(content.about),
    }
    plain["digest"] = digest(plain)
    # In memory first: torch tells of a full disk in words that name no file.
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    with writing_atomically(path) as file:
        file.write(buffer.getbuffer())


def load_content(source: str | Path) -> Content:
    """Read the file.

    Raises:
        UserError: There is no such file, it is damaged or of another kind, or it
            contradicts itself.
    """
    path = user_path(source, "classifier")
    plain, _ = read_tensor_file(path)
    if not isinstance(plain, Mapping) or plain.get("format") != FORMAT:
        raise UserError(f"'{source}' is no classifier's file; msn-mm fit writes one")
    if plain.get("version") != VERSION:
        raise UserError(
            f"'{source}' is of version {plain.get('version')!r:.20} and this program reads "
            f"{VERSION}; fit it anew, or update msn_mm"
        )
    told = plain.get("digest")
    if told != digest({key: value for key, value in plain.items() if key != "digest"}):
        raise UserError(
            f"'{source}' is damaged: it holds something else than when it was written; fit it anew"
        )
    try:
        return _checked(plain, str(source))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())[:100]
        raise UserError(
            f"'{source}' is no whole classifier ({type(error).__name__}: {reason}); fit it anew"
        ) from error


def digest(content: Any) -> str:
    """Return a hexadecimal SHA-256 of nested plain values and tensors."""
    found = hashlib.sha256()
    for part in _bytes_of(content):
        # Lengths keep two values from running into one.
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()


def _bytes_of(value: Any) -> Iterator[bytes | memoryview]:
    if isinstance(value, Tensor):
        yield f"tensor {value.dtype} {tuple(value.shape)}".encode()
        plain = value.detach().cpu().contiguous().reshape(-1)
        yield plain.view(torch.uint8).numpy().data
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}".encode()
        for key in sorted(value, key=str):
            yield str(key).encode(errors="surrogateescape")
            yield from _bytes_of(value[key])
    elif isinstance(value, list | tuple):
        yield f"sequence {len(value)}".encode()
        for item in value:
            yield from _bytes_of(item)
    else:
        yield f"{type(value).__name__} {value!r}".encode(errors="surrogateescape")


def _checked(plain: Mapping[str, Any], source: str) -> Content:
    metadata = {METADATA: {METADATA_KEY: plain["encoder_metadata"]}}
    encoder = convert(RawCheckpoint(source, plain["encoder"], metadata), "msn_mm")
    view = EvalCrop(**plain["view"])
    if view.crop is None or max(view.crop, view.resize or 0) > _LONGEST_SIDE:
        raise ValueError(f"its view {view.settings()} is none")
    classes, paths = _words(plain["classes"], "classes"), _words(plain["paths"], "paths")
    weights, features = plain["weights"], plain["features"]
    labels, similarities = plain["labels"], plain["similarities"]
    (n, width), count = features.shape, len(classes)
    if len(set(classes)) != count or count < 2 or len(paths) != n:
        raise ValueError("its names do not fit its numbers")
    shapes = {
        "weights": (weights, (width, count), torch.float64),
        "features": (features, (n, width), torch.float32),
        "labels": (labels, (n,), torch.int64),
        "similarities": (similarities, (n,), torch.float64),
    }
    for name, (tensor, shape, dtype) in shapes.items():
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise ValueError(f"{name} are {tensor.dtype} {tuple(tensor.shape)}")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} are not finite")
    if int(labels.min()) < 0 or int(labels.max()) >= count:
        raise ValueError("a label has no class")
    temperature = float(plain["temperature"])
    if not 0 < temperature < float("inf"):
        raise ValueError(f"the temperature is {temperature}")
    return Content(
        encoder=encoder,
        view=view,
        classes=classes,
        weights=weights,
        temperature=temperature,
        features=features,
        labels=labels,
        paths=paths,
        similarities=similarities,
        about=dict(plain["about"]),
    )


def _words(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"{name} are no words")
    return tuple(value)
