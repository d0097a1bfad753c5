"""Several runs beside each other: planned, made once, drawn on one page.

Knows transfers and drawings; never the command line.
"""
