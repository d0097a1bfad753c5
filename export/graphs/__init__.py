"""Builds ONNX graphs: VGG-19's features, the cost with its gradient, a step of Adam.

Knows nodes and tensors; never a runtime.
"""
