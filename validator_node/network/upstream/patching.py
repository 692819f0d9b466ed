"""How a correction replaces a method or a function of py-libp2p.

Rules: a replacement is installed once however often `apply()` runs; the original stays on record in
`APPLIED`, so that a test can take one correction away and watch the fault come back.
"""

from collections.abc import Callable
from typing import Any, Final

APPLIED: Final[dict[tuple[int, str], tuple[str, Any, str, Any, Any]]] = {}
"""(id of the owner, attribute, correction) -> (correction, owner, attribute, before, after)."""


def replace(correction: str, owner: Any, name: str, build: Callable[[Any], Any]) -> None:
    """Replace `owner.name` by `build(original)`, unless this correction did so already.

    Args:
        correction: the module of the correction, its `__name__`.
        owner: a class or a module of py-libp2p.
        name: the attribute to replace; it must exist, for a rename upstream must not pass unseen.
        build: makes the replacement from the original.
    """
    key = (id(owner), f"{name} {correction}")
    if key in APPLIED:
        return
    before = vars(owner)[name] if name in vars(owner) else getattr(owner, name)
    after = build(before)
    setattr(owner, name, after)
    APPLIED[key] = (correction, owner, name, before, after)


def introduce(correction: str, owner: Any, name: str, value: Any) -> None:
    """Add an attribute, such as a property over an instance attribute, the owner did not have."""
    key = (id(owner), f"{name} {correction}")
    if key in APPLIED:
        return
    assert name not in vars(owner), f"{owner} now has {name}: review {correction}"
    setattr(owner, name, value)
    APPLIED[key] = (correction, owner, name, None, value)
