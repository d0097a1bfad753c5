"""Tiles: where they lie in a picture and in its layers, and activations kept by tile."""
