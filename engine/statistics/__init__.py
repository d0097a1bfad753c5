"""Costs of style statistics but for the Gram matrix, by PyTorch.

Knows arrays; never features, targets or gradients of pictures.
"""
