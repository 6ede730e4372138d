"""What runs in a Ray worker, whichever node that is on."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from hpo import interruption


class Answer(NamedTuple):
    """What the work returned, and what it warned of."""

    result: Any
    warnings: list[logging.LogRecord]


def call(threads: dict[str, str], folder: str, path: Sequence[str], work: bytes) -> Answer:
    """The pickled work of the process that sends it, with that one's folder and path as far as they exist here.

    `threads`: environment variables of the libraries that it loads: this file must load none of them.
    """
    os.environ.update(threads)
    interruption.listen(signal.SIGINT)  # as which `ray.cancel` comes
    if Path(folder).is_dir():
        os.chdir(folder)
    sys.path.extend(entry for entry in path if entry not in sys.path)
    warned: SimpleQueue[logging.LogRecord] = SimpleQueue()
    handler = QueueHandler(warned)
    logging.getLogger("hpo").addHandler(handler)
    try:
        function, args, kwargs = pickle.loads(work)
        result = function(*args, **kwargs)
    finally:
        logging.getLogger("hpo").removeHandler(handler)
    return Answer(result, [warned.get() for _ in range(warned.qsize())])
