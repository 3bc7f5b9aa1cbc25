"""The subcommands of ``msn-mm``, one module each; :mod:`msn_mm.__main__` finds them here.

A module's name is the command's, an underscore a hyphen. It has ``HELP``, a line;
``add_arguments(parser)``; and ``run(args)``, which returns the exit status. Nothing
heavy is imported before ``run`` has looked at what can be told without.
"""
