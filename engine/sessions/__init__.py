"""ONNX Runtime sessions, opened once and kept ready in the cache.

Knows graphs; never pictures.
"""
