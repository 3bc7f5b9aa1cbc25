"""Words of a command line; nothing heavy is imported."""

SAMPLERS = ("ddim", "dpm", "ddpm")
