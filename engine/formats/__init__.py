"""Formats of picture files: told by their first bytes, repaired, and of 16 bits a channel.

Knows bytes and arrays; never what a picture is for.
"""
