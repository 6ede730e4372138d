"""The way from a worker to the checkpoint of its trial: opened when it is needed, closed with the trial."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from hpo.failures import BadStorage
from hpo.storage.arrays import Named
from hpo.storage.claims import Claim
from hpo.storage.leases import USUAL, Times
from hpo.storage.ledger import Ledger
from hpo.storage.patience import patient

log = logging.getLogger(__name__)


class TakenOver(Exception):
    """The trial was given to another run: what is computed here is not wanted any more."""


@dataclass
class Desk:
    """A claimed trial and the database it is in; crosses process borders before it is first used."""

    url: str = field(repr=False)
    claim: Claim
    times: Times = USUAL
    _ledger: Ledger | None = None

    @patient
    def load(self) -> dict[str, NDArray[Any]] | None:
        """What the trial was saved as, None if it was not. Raises BadStorage."""
        return self._opened().saved(self.claim) if self.claim.saved else None

    def save(self, fresh: Named, stays: Collection[str]) -> bool:
        """As `Ledger.save`; False if the database cannot be reached: no training waits for it. Raises TakenOver."""
        try:
            if self._opened().save(self.claim, fresh, stays):
                return True
        except BadStorage as error:
            log.warning("trial %d of %s is not saved: %s", self.claim.number, self.claim.arm, error)
            return False
        raise TakenOver(f"trial {self.claim.number} of {self.claim.arm} was taken over by another run")

    def _opened(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger.open(self.url, create=False, times=self.times._replace(patience=0.0))
        return self._ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
