"""The commands of ``tools/rcdm.py``: one module a command, its arguments and what it does."""
