"""The cost and its gradient tile by tile: exact, in two passes, by the networks of the untiled backends."""
