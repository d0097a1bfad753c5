"""Defaults of options from a file, and environment variables that look like options.

Knows files and typer's contexts; never what an option means.
"""
