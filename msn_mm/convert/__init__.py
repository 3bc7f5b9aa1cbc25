"""Checkpoint formats: every one in, the common ones out."""
