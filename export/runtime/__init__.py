"""ONNX Runtime: providers that are tried before they are believed, and sessions.

Knows graphs as bytes; never how they were built.
"""
