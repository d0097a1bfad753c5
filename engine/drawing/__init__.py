"""What people look at: animations, sheets, strips and curves.

Knows pictures and numbers; never how they were computed.
"""
