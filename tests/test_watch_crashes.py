"""The daemon dies again and again over a stream of files: see the harness for what must hold.

The whole proof, of which this is a part, is ``python tests/crash/harness.py --kills 500 --deliver``
and ``python tests/crash/harness.py --steps 500 --deliver``.
"""

import random

import pytest

from crash.harness import Crashes


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("deliver", [True, False], ids=["delivering", "in place"])
def test_nothing_is_lost_however_often_the_daemon_is_killed(tmp_path, deliver):
    crashes = Crashes(tmp_path, deliver, seed=None)
    crashes.run(kills=500, seconds=45)
    print(crashes.report())  # noqa: T201 - the figures are the proof
    assert crashes.kills >= 8, crashes.report()
    assert len(crashes.announced) >= 150, crashes.report()
    assert crashes.problems == [], crashes.report()
    assert crashes.strays == 0, crashes.report()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_is_lost_at_whichever_step_the_daemon_dies(tmp_path):
    crashes = Crashes(tmp_path, deliver=True, seed=None)
    crashes.run_steps(range(random.randint(1, 5), 500, 5))
    print(crashes.report())  # noqa: T201 - the figures are the proof
    assert crashes.moments["at a step"] >= 8, crashes.report()
    assert crashes.moments["after the last step"] == 1, crashes.report()
    assert crashes.problems == [], crashes.report()
    assert crashes.strays == 0, crashes.report()
