"""Kernels in Triton for what a step does besides its convolutions, on CUDA.

Knows activations and gradients as rows of channels; never objectives.
"""
