# mypy: ignore-errors
# platform_guest exists only inside a component.
"""@TITLE@: how close is the submitted decimal number to the target? README.md states the score."""

from platform_guest import MAX_SCORE, Input, Output, accept, refuse

MAX_DIGITS = 9


def evaluate(given: Input) -> Output:
    """Score one submission. Never raise for what a miner sends: say at which byte it is wrong."""
    target, most = given.number("target"), given.number("range")
    digits = given.submission
    if not digits:
        return refuse("submission byte 0: 1 to 9 digits were expected")
    if len(digits) > MAX_DIGITS:
        return refuse(f"submission byte {MAX_DIGITS}: 1 to 9 digits were expected")
    for at, byte in enumerate(digits):
        if not ord("0") <= byte <= ord("9"):
            return refuse(f"submission byte {at}: a digit was expected")
    distance = abs(int(digits) - target)
    score = (most - distance) * MAX_SCORE // most
    return accept(score, f"off by {distance}", {"distance": distance})
