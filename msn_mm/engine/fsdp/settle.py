"""Which runner a config needs, and what ``--amp`` means for shards.

Light: torch's sharding is imported only for a config that asks for it.
"""

from __future__ import annotations

from mmengine.config import Config
from mmengine.runner import Runner

from msn_mm.engine.step_runner import StepRunner

WRAPPER = "FullyShardedModel"


def is_sharded(cfg: Config) -> bool:
    """Return whether a resolved config trains over shards; one process never does."""
    wrapper = cfg.get("model_wrapper_cfg") or {}
    return cfg.get("launcher", "none") != "none" and wrapper.get("type") == WRAPPER


def settle_sharding(cfg: Config) -> list[str]:
    """Let the shards follow ``--amp``, in place; return what to tell the user."""
    wrapper = cfg.get("model_wrapper_cfg") or {}
    if wrapper.get("type") != WRAPPER:
        return []
    if not is_sharded(cfg):
        return ["one process without a launcher: the model is not sharded"]
    if (cfg.get("optim_wrapper") or {}).get("type") == "AmpGroupOptimWrapper":
        if ((cfg.get("model") or {}).get("backbone") or {}).get("compile"):
            # A block in bfloat16 has units within, which no graph can hold.
            wrapper.setdefault("param_dtype", None)
            return ["compiled blocks: weights are sent in float32, and cast by autocast"]
        wrapper.setdefault("param_dtype", "bfloat16")
    return []


def runner_class(cfg: Config) -> type[Runner]:
    """Return the runner for a resolved config."""
    if not is_sharded(cfg):
        return StepRunner
    from msn_mm.engine.fsdp.runner import ShardedRunner

    return ShardedRunner
