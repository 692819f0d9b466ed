"""Deadlines that trio's type stubs do not know."""

import trio


def shielded(seconds: float) -> trio.CancelScope:
    """Return a scope that no outer cancellation reaches, for at most `seconds`.

    For what must be finished once begun, such as half a frame or a stream's end.
    """
    scope = trio.CancelScope(deadline=trio.current_time() + seconds)
    scope.shield = True
    return scope
