"""Mutation of bounds: every comparison that execution depends on is broken, and a test must notice.

1. A *mutant* is one change of one token in one function or constant of a module (`changes`):
   `<` and `<=`, `>` and `>=`, `==` and `!=` change places, so do `and` and `or`; `not` goes; an
   integer that is counted or compared with is one less or one more; `+` and `-` change places.
2. It is applied in the process that has imported everything already, by giving the functions that
   run the mutant's code (`live`), in a fork of its own, and the module's own tests run until one
   fails (`runner`).
3. What no test notices *survives*. `explained.json` says of those that may why nobody can tell
   them from the product; any other one is a missing test.

`python -m tests.mutation --help` says how to run it.
"""
