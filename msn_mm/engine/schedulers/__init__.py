"""Schedules that MMEngine lacks."""
