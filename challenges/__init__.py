"""Author kit and example challenges: what a challenge author starts from.

``sdk/`` holds the guest side of the sandbox's ABI, ``build`` compiles a module reproducibly,
``vectors`` reads a module's test vectors, ``examples`` are complete challenges to copy.
"""
