"""Colours: which ones a picture has in the end, its style's or its photograph's.

Knows colour spaces, maps of colours and their statistics; never networks or costs.
"""
