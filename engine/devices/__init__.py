"""Devices: what there is, its precisions and memory, and arrays and convolutions on it.

Knows tensors; never a cost.
"""
