"""Augmentations in two halves: numbers drawn in the worker, pixels changed on the device."""
