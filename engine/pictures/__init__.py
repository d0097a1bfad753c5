"""Pictures: read, resized, written, recoloured, and the start of a run.

Knows pixels; never VGG-19.
"""
