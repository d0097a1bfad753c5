"""Solvers: L-BFGS and Adam, with the loops that drive them.

Knows costs and gradients of pictures; never where they come from.
"""
