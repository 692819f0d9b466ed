"""What a node keeps on disk: one LevelDB, one write-ahead journal, and what is built on them.

Nothing here knows an action, a consensus message, a clock or a network.
"""
