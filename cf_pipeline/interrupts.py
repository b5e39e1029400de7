"""An interrupt is not lost, wherever it falls.

Dagster ends a run by an exception that its signal handler raises. Python calls the handler in the
first Python code to run after the signal, and after an import or a long operation of torch that is
often a callback of the garbage collector, in which Python prints exceptions and goes on
(https://github.com/python/cpython/issues/95959): the run would go on to its end.
"""

import signal
import sys
import threading
from functools import cache

import dagster as dg

INTERRUPTS = (KeyboardInterrupt, dg.DagsterExecutionInterruptedError)
SECONDS_TO_LEAVE = 0.05  # the callback; one that takes longer is interrupted again


@cache  # once for each process
def keep_interrupts() -> None:
    """Interrupt the main thread again whenever Python ignored an interrupt, from now on."""
    ordinary = sys.unraisablehook

    def interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, INTERRUPTS):
            ordinary(unraisable)
            return
        main = threading.main_thread().ident
        again = threading.Timer(SECONDS_TO_LEAVE, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()

    sys.unraisablehook = interrupt_again
