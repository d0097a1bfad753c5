"""``nstx optimize``: the command, its request, what it records and reports.

Knows the terminal; never what a library user would miss.
"""
