"""Throughput: variants in turns, each in a process of its own, and their reports.

Knows what it measures; never the command line.
"""
