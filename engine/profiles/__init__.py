"""Colour profiles: what an ICC profile's matrix and curves make of sRGB, and of it.

Knows arrays of colours; never files or pictures.
"""
