"""Words of a command line; nothing heavy is imported."""

SAMPLERS = ("ddpm", "ddim", "dpm")
