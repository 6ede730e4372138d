"""Several watchers of one run. One that fails is told no more: what watches a study must not end it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hpo.failures import BadInput
from hpo.loggers.logger import Logging, logger
from hpo.storage.address import masked

if TYPE_CHECKING:
    from hpo.arm import ArmRun
    from hpo.execution.place import Place
    from hpo.spec import Study
    from hpo.storage.ledger import Ledger
    from hpo.study import Watcher
    from hpo.trial import Proposal, Trial

log = logging.getLogger(__name__)

VERBS = ("begun", "opened", "placed", "closed", "ended", "stop")


class Several:
    """Tells each of them the same, in their order."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = watchers

    def begun(self, study: Study, arms: Sequence[ArmRun]) -> None:
        for watcher in self._watchers:
            watcher.begun(study, arms)

    def opened(self, arm: ArmRun, proposal: Proposal) -> None:
        for watcher in self._watchers:
            watcher.opened(arm, proposal)

    def placed(self, arm: ArmRun, number: int, place: Place) -> None:
        for watcher in self._watchers:
            watcher.placed(arm, number, place)

    def closed(self, arm: ArmRun, trial: Trial) -> None:
        for watcher in self._watchers:
            watcher.closed(arm, trial)

    def ended(self, arm: ArmRun) -> None:
        for watcher in self._watchers:
            watcher.ended(arm)

    def stop(self) -> None:
        for watcher in self._watchers:
            watcher.stop()


class Guarded:
    """A watcher whose failure is said in one line, and then it is told `stop`, to let go of what it has, and no more.

    Only before anything is trained does BadInput pass: what the user can mend is better mended first.
    """

    def __init__(self, watcher: Watcher, name: str, advice: str = "") -> None:
        self._watcher, self._name, self._advice = watcher, name, advice
        self._failed = False

    def begun(self, study: Study, arms: Sequence[ArmRun]) -> None:
        try:
            self._watcher.begun(study, arms)
        except BadInput:
            raise
        except Exception as error:
            self._give_up("before the first trial", error)

    def opened(self, arm: ArmRun, proposal: Proposal) -> None:
        self._tell("opened", f"when trial {proposal.number} of {arm.label} began", arm, proposal)

    def placed(self, arm: ArmRun, number: int, place: Place) -> None:
        self._tell("placed", f"when trial {number} of {arm.label} was placed", arm, number, place)

    def closed(self, arm: ArmRun, trial: Trial) -> None:
        self._tell("closed", f"at trial {trial.number} of {arm.label}", arm, trial)

    def ended(self, arm: ArmRun) -> None:
        self._tell("ended", f"at the end of {arm.label}", arm)

    def stop(self) -> None:
        self._tell("stop", "at the end")

    def _tell(self, verb: str, when: str, *what: Any) -> None:
        if self._failed:
            return
        try:
            getattr(self._watcher, verb)(*what)
        except Exception as error:  # whatever the user's code or a service raises
            self._give_up(when, error, stopped=verb == "stop")

    def _give_up(self, when: str, error: Exception, stopped: bool = False) -> None:
        self._failed = True
        said = [_said(error)]
        if not stopped:
            try:
                self._watcher.stop()
            except Exception as another:
                said.append(f"and as it stopped {_said(another)}")
        told = ", ".join(said)
        log.warning("%s failed %s (%s): it is told no more; the study goes on%s", self._name, when, told, self._advice)


def _said(error: Exception) -> str:
    return masked(f"{type(error).__name__}: {' '.join(str(error).split())}")


def _named(callback: object) -> str:
    return repr(masked(callback)) if isinstance(callback, str) else f"{type(callback).__name__}()"


@contextmanager
def told(shown: Watcher, callbacks: Sequence[Watcher | str], ledger: Ledger) -> Iterator[Watcher]:
    """`shown` and the callbacks as one watcher, stopped at the end of the block. A callback that is text is a logger.

    Raises BadInput for a logger there is not or that is there twice, for what is no list, and for a callback without
    one of a watcher's methods.
    """
    if isinstance(callbacks, str) or not isinstance(callbacks, Sequence):
        raise BadInput(f"callbacks: give a list, such as [{_named(callbacks)}]")
    twice = [text for text in callbacks if isinstance(text, str) and callbacks.count(text) > 1]
    if twice:
        raise BadInput(f"logger {masked(twice[0])} is given twice: give it once")
    guarded = [_guarded(callback, ledger) for callback in callbacks]
    several = Several([*guarded, shown])
    try:
        yield several
    finally:
        several.stop()


def _guarded(callback: Watcher | str, ledger: Ledger) -> Guarded:
    if isinstance(callback, str):
        advice = "; the next run with this logger writes what is missing"
        return Guarded(Logging(logger(callback), ledger), f"logger {masked(callback)}", advice)
    if isinstance(callback, type):
        raise BadInput(f"callbacks: {callback.__name__} is a class: give {callback.__name__}()")
    name = type(callback).__name__
    lacking = [verb for verb in VERBS if not callable(getattr(callback, verb, None))]
    if lacking:
        raise BadInput(f"callbacks: {name} has no method {lacking[0]}: derive it from hpo.Watcher")
    return Guarded(callback, f"callback {name}")
