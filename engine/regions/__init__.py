"""Regions: masks as data, carried to each layer's positions, and how a result fades into its photograph.

Knows pictures and sizes; never targets, gradients or solvers.
"""
