"""Training: launch, loops, hooks, optimizers, schedules, checkpoints."""
