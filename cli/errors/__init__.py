"""From errors to exit codes, one line on stderr, and with ``--json`` one object on stdout.

Knows every kind of error; never what raised it.
"""
