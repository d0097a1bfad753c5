"""Pictures: read, resized, written, and what lies under their transparency.

Knows pixels; never VGG-19.
"""
