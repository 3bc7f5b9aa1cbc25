"""What a wrong config raises while its parts are built, told in one line."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mmengine.registry import Registry
from mmengine.runner import Runner

from msn_mm.engine.signatures import argument_names
from msn_mm.errors import UserError, did_you_mean


@contextmanager
def config_mistakes() -> Iterator[None]:
    """Turn what a wrong config raises while it is built into :class:`UserError`.

    Told in one line are a ``type`` that no registry knows, an argument that the class
    does not take, one that it needs and the config leaves out, and a ``ValueError`` or
    an assertion by which a constructor refuses a setting. An error that did not pass
    through a registry, or that names nothing written in the config, is a bug
    and passes untouched.

    Raises:
        UserError: naming the thing and the nearest right one.
    """
    try:
        yield
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        line = _explain(error)
        if line is None:
            raise
        raise UserError(line) from error


def _explain(error: Exception) -> str | None:
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    builds = [frame for frame in frames if frame.f_code.co_name == "build_from_cfg"]
    if not builds:
        # MMEngine's Runner compares the parts of a config with each other.
        is_runners = frames[-1].f_code is Runner.__init__.__code__
        said = " ".join(str(error).partition(", but got")[0].split())
        return f"config: {said}" if is_runners and isinstance(error, ValueError) else None
    local = builds[-1].f_locals
    args, kind = local.get("args") or {}, local.get("obj_type")
    if isinstance(error, KeyError):
        registry = local.get("registry")
        if not isinstance(registry, Registry) or frames[-1] is not builds[-1]:
            return None
        if local.get("obj_cls", kind) is not None:
            return None
        if "type" not in (local.get("cfg") or {}):
            return f"a {registry.name} in the config has no 'type': {dict(local['cfg'])}"
        near = did_you_mean(str(kind), _names(registry))
        return f"no {registry.name} is registered as '{kind}'.{near}"
    if isinstance(error, TypeError):
        missing = re.search(r"missing \d+ required .* arguments?: (.+)", str(error))
        if missing is not None and frames[-1] is builds[-1]:
            return f"{kind} needs the argument {missing[1]}, which the config leaves out"
        match = re.search(r"(\S+?)\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if match is None or match[2] not in _written_keys(args):
            return None
        names = _names_at(match[1], frames[-1]) | (argument_names(local.get("obj_cls")) or set())
        return f"{kind} takes no argument '{match[2]}'.{did_you_mean(match[2], names)}"
    # It is the refusal of a setting when the constructor itself, or anything of this
    # package, raised a ValueError; deeper in a library it may be a bug.
    last, built = frames[-1], local.get("obj_cls")
    own = last.f_globals.get("__name__", "").startswith("msn_mm.")
    in_constructor = last.f_code.co_name == "__init__" and isinstance(built, type)
    refused = in_constructor and isinstance(last.f_locals.get("self"), built or object)
    if isinstance(error, AssertionError):
        return _asserted(error, str(kind), args) if refused and not own else None
    return f"{kind}: {error}" if own or refused else None


def _asserted(error: AssertionError, kind: str, args: Mapping[str, Any]) -> str:
    """Tell an assertion of a library, by its code where it says nothing else."""
    said = " ".join(str(error).split())
    if not said:
        code = traceback.extract_tb(error.__traceback__)[-1].line or "assert"
        named = [key for key in args if re.search(rf"\b{re.escape(str(key))}\b", code)]
        given = ", ".join(f"{key}={args[key]!r:.60}" for key in named) or "its arguments"
        said = f"{given} does not meet '{code.removeprefix('assert ')}'"
    return f"{kind}: {said}"


def _written_keys(value: Any) -> set[str]:
    """Return all keys of a config node, its nested dicts and lists included."""
    if isinstance(value, Mapping):
        return {str(k) for k in value}.union(*(_written_keys(v) for v in value.values()))
    if isinstance(value, list | tuple):
        return set().union(*(_written_keys(v) for v in value))
    return set()


def _names(registry: Registry | None) -> set[str]:
    names: set[str] = set()
    while registry is not None:
        names |= set(registry.module_dict)
        registry = registry.parent
    return names


def _names_at(called: str, frame: FrameType) -> set[str]:
    """Return the arguments of the class or function ``called`` as a frame sees it."""
    name = called.removesuffix(".__init__").rsplit(".", 1)[-1]
    scope: Iterable[Any] = [*frame.f_locals.values(), *frame.f_globals.values()]
    for value in scope:
        if callable(value) and getattr(value, "__name__", None) == name:
            return argument_names(value) or set()
    return set()
