"""Artefacts: what shows of a picture's pixels before its style does, as figures.

Knows pixels, by NumPy alone; never VGG-19.
"""
