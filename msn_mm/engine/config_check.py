"""Mistakes in a config, found early and told in one line with the nearest right name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from msn_mm import registry as registries
from msn_mm.engine.signatures import argument_names
from msn_mm.errors import UserError, did_you_mean

# Top-level keys that the launcher reads; the others are the Runner's arguments.
LAUNCH_KEYS = ("global_batch_size", "accumulation", "base_batch_size", "data_root")
# Top-level keys that the Runner reads from its whole config.
_RUNNER_EXTRAS = (
    "model_wrapper_cfg",
    "find_unused_parameters",
    "sync_bn",
    "compile",
    "custom_imports",
    "runner_type",
    "vis_backends",
)
# A key as near as this to a known one is taken for a misspelling of it.
_MISSPELT = 0.85
_VIEW_KEYS = ("size", "scale", "ratio", "num", "ops", "same_as", "interpolation")
# Parts of a config that are dicts where they are there.
_PARTS = (
    *("model", "train_dataloader", "val_dataloader", "test_dataloader", "train_cfg", "val_cfg"),
    *("test_cfg", "optim_wrapper", "default_hooks", "env_cfg", "randomness", "data_preprocessor"),
)
# Whole numbers, and the least that each can be.
_WHOLE = (
    ("train_cfg", "max_epochs", 1),
    ("train_cfg", "max_iters", 1),
    ("train_cfg", "val_interval", 1),
    ("randomness", "seed", 0),
)
_LOADER_EXTRAS = ("type", "num_batch_per_epoch", "dataset", "sampler", "batch_sampler")


def known_top_keys() -> set[str]:
    """Return every top-level key that has a meaning in a config."""
    runner = set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"}
    return runner | set(LAUNCH_KEYS) | set(_RUNNER_EXTRAS)


def check_top_keys(cfg: Config) -> None:
    """Refuse a top-level key that is a near miss of a known one.

    A config file may define variables of its own, which become top-level keys
    too, so a key is only refused when it looks like a misspelling.

    Raises:
        UserError: naming the key and the one that was probably meant.
    """
    known = known_top_keys()
    for key in cfg:
        if key in known:
            continue
        near = difflib.get_close_matches(key, known - set(cfg), n=1, cutoff=_MISSPELT)
        if near:
            raise UserError(
                f"config {_name(cfg)}: unknown key '{key}'. Did you mean '{near[0]}'? "
                "(A variable of your own wants a name less alike.)"
            )


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge ``--cfg-options`` into ``cfg`` in place, refusing keys that nothing reads.

    A new key is accepted only as the last part of a dotted path: in a dict with
    a ``type`` when the registered class takes an argument of that name, in a
    free mapping (mask ratio by view, hooks by name) when it is no misspelling.

    Raises:
        UserError: for an unknown key, naming the nearest known one.
    """
    for dotted, value in options.items():
        _check_option(cfg, dotted, value)
        try:
            cfg.merge_from_dict({dotted: value})
        except (KeyError, TypeError) as error:
            raise UserError(f"--cfg-options {dotted}={value}: {error}") from error


def check_values(cfg: Config) -> None:
    """Refuse what MMEngine would run into later: a part that is none, a number that is none.

    Raises:
        UserError: naming the key.
    """
    for key in _PARTS:
        if cfg.get(key) is not None and not isinstance(cfg[key], Mapping):
            raise UserError(f"config {_name(cfg)}: {key} is {cfg[key]!r:.60}; it must be a dict")
    for part, key, least in _WHOLE:
        value = (cfg.get(part) or {}).get(key)
        if value is not None and (type(value) is not int or value < least):
            raise UserError(
                f"config {_name(cfg)}: {part}.{key} is {value!r:.60}; give a whole number of at "
                f"least {least}"
            )


def check_windows(cfg: Config) -> None:
    """Refuse an evaluation that shows a model other pixel values than its training does.

    Raises:
        UserError: naming the data loader.
    """
    trained = _transform(cfg, "train_dataloader")
    for loader in ("val_dataloader", "test_dataloader"):
        measured = _transform(cfg, loader)
        if trained is None or measured is None:
            continue
        ours, theirs = (view.get("window") for view in (trained, measured))
        if ours != theirs:
            raise UserError(
                f"config {_name(cfg)}: {loader} reads pixels through the window {theirs} and the "
                f"training through {ours}; set {loader}.dataset.transform.window to the same"
            )


def _transform(cfg: Config, loader: str) -> Mapping[str, Any] | None:
    dataset = (cfg.get(loader) or {}).get("dataset")
    found = dataset.get("transform") if isinstance(dataset, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _check_option(cfg: Config, dotted: str, value: Any) -> None:
    node: Any = cfg._cfg_dict
    parts = dotted.split(".")
    for depth, part in enumerate(parts):
        where = ".".join(parts[:depth])
        last = depth == len(parts) - 1
        if isinstance(node, list | tuple):
            if not part.isdigit() or int(part) >= len(node):
                raise UserError(
                    f"--cfg-options {dotted}: '{where}' is a list of {len(node)}; "
                    f"give an index from 0 to {len(node) - 1}, not '{part}'"
                )
            node = node[int(part)]
        elif not isinstance(node, Mapping | Config):
            raise UserError(f"--cfg-options {dotted}: '{where}' is a plain value, it has no keys")
        elif part in node:
            if node[part] is None and not last and isinstance(node, dict):
                # A setting that is off (clip_grad=None) may be filled key by key.
                node[part] = {}
            if last:
                _check_kind(dotted, node, value)
            node = node[part]
        elif last:
            _check_new_key(node, parts)
        else:
            accepted, strict = _accepted_keys(node, parts[: depth + 1])
            if depth > 0 and strict and part in accepted:
                return  # an argument that the config left out, given key by key
            known = set(node) | (known_top_keys() if depth == 0 else set())
            near = did_you_mean(part, map(str, known))
            if where:
                near = near.replace("mean '", f"mean '{where}.")
            raise UserError(
                f"--cfg-options {dotted}: the config has no '{'.'.join(parts[: depth + 1])}'.{near}"
            )


def _check_kind(dotted: str, node: Mapping[str, Any], value: Any) -> None:
    """Refuse a value of another kind than the config's, which would fail far from here."""
    key = dotted.rpartition(".")[2]
    before = node[key]
    if value is None and before is not None and isinstance(node.get("type"), str):
        arguments = inspect.signature(_find(node["type"]) or (lambda: None)).parameters
        if key in arguments and arguments[key].default is inspect.Parameter.empty:
            raise UserError(f"--cfg-options {dotted}=None: {node['type']} needs it")
    is_number = isinstance(before, int | float) and not isinstance(before, bool)
    if isinstance(before, Mapping) and isinstance(value, str | int | float):
        inner = next(iter(k for k in ("name", "type", *before) if k in before), "key")
        raise UserError(
            f"--cfg-options {dotted}={value}: it is a dict in the config; set what is in it, such "
            f"as {dotted}.{inner}=..."
        )
    if is_number and isinstance(value, str) and value != "auto":
        raise UserError(f"--cfg-options {dotted}={value}: it is a number in the config ({before})")


def _places_of(key: str, node: Any, where: str = "") -> Iterator[str]:
    """Give the dotted places at which dicts of a config have a key."""
    for name, child in node.items() if isinstance(node, Mapping) else ():
        place = f"{where}.{name}" if where else str(name)
        if name == key:
            yield place
        yield from _places_of(key, child, place)


def _check_new_key(node: Mapping[str, Any], parts: list[str]) -> None:
    key, parent = parts[-1], parts[-2] if len(parts) > 1 else ""
    accepted, strict = _accepted_keys(node, parts)
    if strict and key not in accepted:
        near = did_you_mean(key, set(accepted) | set(node))
        if not parent:
            elsewhere = next(_places_of(key, node), None)
            near = near or (f" Did you mean '{elsewhere}'?" if elsewhere else "")
        owner = f"'{'.'.join(parts[:-1])}'" if parent else "the config"
        kind = f" ({node['type']})" if "type" in node else ""
        raise UserError(f"--cfg-options {'.'.join(parts)}: {owner}{kind} has no '{key}'.{near}")
    if not strict:
        near_keys = difflib.get_close_matches(key, [str(k) for k in node], n=1, cutoff=0.75)
        if near_keys:
            raise UserError(
                f"--cfg-options {'.'.join(parts)}: unknown key '{key}'. "
                f"Did you mean '{near_keys[0]}'?"
            )


def _accepted_keys(node: Mapping[str, Any], parts: list[str]) -> tuple[set[str], bool]:
    """Return the keys that a dict may take and whether there are no others."""
    if len(parts) == 1:
        return known_top_keys(), True
    if len(parts) > 2 and parts[-3] == "views":
        return set(_VIEW_KEYS), True
    if parts[-2].endswith("_dataloader") and len(parts) == 2:
        loader = set(inspect.signature(DataLoader.__init__).parameters) - {"self"}
        return loader | set(_LOADER_EXTRAS), True
    if parts[:-1] == ["train_cfg"] and "type" not in node:
        loop = EpochBasedTrainLoop if node.get("by_epoch", True) else IterBasedTrainLoop
        # ExactEpochLoop, which trains epochs, takes what MMEngine's loop takes.
        loop_keys = set(inspect.signature(loop.__init__).parameters)
        return (loop_keys - {"self", "runner", "dataloader"}) | {"by_epoch", "type"}, True
    if parts[:-1] == ["randomness"]:
        return {"seed", "diff_rank_seed", "deterministic"}, True
    found = _find(str(node["type"])) if "type" in node else None
    if found is None:
        return set(), False
    names = argument_names(found)
    return (names or set()) | {"type", "_scope_"}, names is not None


def _registries() -> Iterator[Registry]:
    for value in vars(registries).values():
        if isinstance(value, Registry):
            yield value


def _find(name: str) -> Any:
    """Return what is registered under ``name`` in any registry, or ``None``.

    Names already imported come first: a look-up that fails makes a registry
    import all of mmpretrain.
    """
    for registry in _registries():
        registry.import_from_location()
        node: Registry | None = registry
        while node is not None:
            if name in node.module_dict:
                return node.module_dict[name]
            node = node.parent
    return None


def _name(cfg: Config) -> str:
    return str(cfg.filename) if cfg.filename else "(without a file)"
