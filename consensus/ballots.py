"""Ballots: the votes for one slot, each signer counted once.

Rule 18: two different votes of one signer in one (view, phase) are evidence; the first one counts.
Memory: a signer's votes are kept for its `MAX_VIEWS` highest views only.
"""

from __future__ import annotations

from consensus.messages import Vote

MAX_VIEWS = 4


class Ballots:
    """Votes of one phase: `prepare` (with rejects) or `commit`."""

    def __init__(self) -> None:
        self._votes: dict[int, dict[int, Vote]] = {}
        self.has_rejects = False
        """Whether a REJECT was ever counted; almost always none, and then nobody need look."""

    def known(self, signer: int, view: int) -> Vote | None:
        """Return the vote of `signer` in `view`, if there is one."""
        return self._votes.get(signer, {}).get(view)

    def add(self, vote: Vote) -> Vote | None:
        """Count `vote`; return the earlier vote it contradicts, in which case it is not counted."""
        views = self._votes.setdefault(vote.signer, {})
        earlier = views.get(vote.view)
        if earlier is not None:
            same = (earlier.kind, earlier.digest) == (vote.kind, vote.digest)
            return None if same else earlier
        views[vote.view] = vote
        self.has_rejects = self.has_rejects or vote.kind == "reject"
        if len(views) > MAX_VIEWS:
            del views[min(views)]
        return None

    def signatures(self, kind: str, view: int, digest: bytes) -> dict[int, bytes]:
        """Return signer -> signature of the votes of `kind` for `digest` in `view`."""
        found = {}
        for signer, views in self._votes.items():
            vote = views.get(view)
            if vote is not None and vote.kind == kind and vote.digest == digest:
                found[signer] = vote.signature
        return found

    def signers(self, kind: str, view: int) -> set[int]:
        """Return who voted `kind` in `view`, for whatever digest."""
        return {
            signer
            for signer, views in self._votes.items()
            if view in views and views[view].kind == kind
        }

    def choices(self) -> list[tuple[int, bytes]]:
        """Return the distinct (view, digest) pairs voted for, in a fixed order."""
        return sorted(
            {(v.view, v.digest) for views in self._votes.values() for v in views.values()}
        )
