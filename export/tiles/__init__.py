"""Graphs of a tile of a larger picture: sums for its cost, and the gradient that follows from them."""
