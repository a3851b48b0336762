"""Test functions in processes of their own."""

import os
import traceback


def wait_status_of(action):
    """Runs a function in a child; how that ended, as ``waitpid`` says it.

    The exit code is what the function answers, 0 for None, 1 if it raised something.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            code = action() or 0
        except BaseException:  # noqa: BLE001 - the child must not go on with the parent's tests
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]
