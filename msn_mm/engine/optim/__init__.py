"""Optimizers, their parameter groups and wrappers."""
