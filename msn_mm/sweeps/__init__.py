"""Many configs and seeds, trained by one budget and measured by one protocol."""
