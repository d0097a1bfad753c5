"""Executors: workers of a batch elsewhere than in processes of this machine, on nodes that share no folder with it."""
