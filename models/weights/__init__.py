"""Reads VGG-19's weights from every kind of file that carries them, and checks them.

Knows files and layouts; never what the weights are used for.
"""
