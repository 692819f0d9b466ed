"""Messages that the Byzantine validator may send and everybody must refuse."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from consensus.certificate import bitmap
from consensus.engine import Engine
from protocol.envelope import VoteKind
from protocol.records.batch import Certificate
from tests.spec.signers import NUMBERS, Signers, header_of, real, seq_of


def tell(kind: str, signers: Signers, engine: Engine, me: int, byz: int, receive: Callable) -> None:
    """Send `me` one lie of `kind`."""
    voters, view = signers.voters, engine.view
    everyone = range(len(voters))
    own = next(v for v in count(view + 1) if voters.primary(v) == byz)
    match kind:
        case "few":  # one view change is no quorum
            changes = (signers.change(own, byz, None, ()),)
            receive(me, byz, signers.opening(own, byz, changes))
        case "twice":  # one signer counted as often as needed
            changes = (signers.change(own, byz, None, ()),) * len(voters)
            receive(me, byz, signers.opening(own, byz, changes))
        case "forged":  # others' view changes, signed by the liar
            forged = [signers.change(own, i, None, ()) for i in everyone]
            wrong = signers.change(own, byz, None, ()).signature
            changes = tuple(
                c if c.signer == byz else type(c)(**{**fields(c), "signature": wrong})
                for c in forged
            )
            receive(me, byz, signers.opening(own, byz, changes))
        case "padded":  # a certificate with everybody's bit and the liar's signatures
            signature = signers.vote("prepare", view, 3, byz).signature
            certificate = Certificate(
                header=header_of(3), kind="prepare", view=view,
                signers=bitmap(list(everyone), len(voters)), signatures=(signature,) * len(voters),
            )  # fmt: skip
            receive(me, byz, signers.change(view + 1, byz, None, (certificate,)))
        case "usurped":  # a new view by somebody else than its primary
            theirs = next(v for v in count(view + 1) if voters.primary(v) != byz)
            changes = tuple(signers.change(theirs, i, None, ()) for i in (byz,))
            receive(me, byz, signers.opening(theirs, byz, changes))
        case "spoofed":  # a COMMIT in another's name, on its link and on the liar's own
            other = next(i for i in everyone if i not in (me, byz))
            number = 2 * NUMBERS[engine.core.tip_digest]
            vote = signers.vote("commit", view, number, other)
            bad = signers.sign(VoteKind.COMMIT, view, seq_of(number), real(number), byz)
            receive(me, other, type(vote)(**{**fields(vote), "signature": bad}))
            receive(me, byz, vote)
        case _:
            raise ValueError(f"unknown step of the model: {kind}")


def fields(record) -> dict:
    return {name: getattr(record, name) for name in record.__struct_fields__}
