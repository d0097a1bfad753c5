"""Activations and Gram matrices of pictures, by ONNX Runtime or PyTorch.

Knows the network forward; never a cost.
"""
