"""A Ctrl-C is never lost, and a request to terminate is taken as one.

Python ignores exceptions in destructors and the callbacks of its garbage collector. A Ctrl-C that
falls into one (of a progress bar, say) would be printed and forgotten, and the run go on.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["interrupts_kept"]

LATER = 0.05  # seconds until an ignored Ctrl-C comes again: enough to leave most destructors


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Inside, a Ctrl-C that Python ignores is sent again shortly after, until it is heeded.

    SIGTERM (of a scheduler, or of ``timeout``) ends what runs as a Ctrl-C does.
    """
    before, inside, main = sys.unraisablehook, True, threading.main_thread().ident or 0

    def again() -> None:
        time.sleep(LATER)
        if inside and hasattr(signal, "pthread_kill"):  # ends what waits, too
            signal.pthread_kill(main, signal.SIGINT)
        elif inside:
            _thread.interrupt_main()

    def hook(ignored: Any) -> None:
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            # Not threading.Timer: its locks may be held by the code that was interrupted.
            _thread.start_new_thread(again, ())
        else:
            before(ignored)

    sys.unraisablehook = hook
    ours = threading.current_thread() is threading.main_thread()
    ours = ours and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        inside, sys.unraisablehook = False, before
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
