"""Functions that are called in a process of their own, which may be killed."""

from __future__ import annotations

import os
import signal
import traceback

import torch


def in_child(work, *arguments):
    """Call a function in a forked process, which starts at once: what is imported here is imported there.

    Returns:
        Its exit code, 1 after an exception; minus the number of the signal that ended it.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(120)  # a process that hangs ends too
            torch.set_num_threads(1)
            work(*arguments)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
