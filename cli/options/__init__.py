"""Groups of options that commands share, and the settings that they make.

Knows settings and how options are written; never what a command does with them.
"""
