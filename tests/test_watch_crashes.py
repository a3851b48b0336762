"""The daemon dies again and again over a stream of files: see the harness for what must hold."""

import pytest

from crash.harness import Crashes


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("deliver", [True, False], ids=["delivering", "in place"])
def test_nothing_is_lost_however_often_the_daemon_is_killed(tmp_path, deliver):
    crashes = Crashes(tmp_path, deliver, seed=None)
    crashes.run(kills=500, seconds=75)
    print(crashes.report())  # noqa: T201 - the figures are the proof
    assert crashes.kills >= 15, crashes.report()
    assert len(crashes.announced) >= 300, crashes.report()
    assert crashes.problems == [], crashes.report()
    assert crashes.strays == 0, crashes.report()
