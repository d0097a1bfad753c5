"""The other commands, one module each: parse, settings, one library call, render.

Know the terminal; never what a library user would miss.
"""
