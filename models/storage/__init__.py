"""Files that are written whole or not at all, sealed, and kept in the cache folder.

Knows bytes and folders; never what is in them.
"""
