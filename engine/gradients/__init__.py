"""The cost and its gradient, by ONNX Runtime or PyTorch, in every precision.

Knows targets; never a solver.
"""
