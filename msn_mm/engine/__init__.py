"""Training: launch, loops, hooks, optimizers, schedules, checkpoints."""

from msn_mm.hidden_imports import hidden

# MMEngine's optimizers import transformers, where it is installed, to register one optimizer
# of it, a second of every start: msn_mm.engine.optim.adafactor registers it instead.
with hidden("transformers"):
    import mmengine.optim  # noqa: F401
