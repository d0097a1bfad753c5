"""Targets: what pictures are compared with, computed once and kept.

Knows features and files; never a gradient.
"""
