import gc
from contextlib import suppress

import pytest

from kinoclip.importing import without_collector


@pytest.mark.parametrize("collects", [True, False])
def test_the_collector_waits_and_goes_on_as_before(collects):
    (gc.enable if collects else gc.disable)()
    try:
        with suppress(ImportError), without_collector():
            waits = not gc.isenabled()
            raise ImportError
        goes_on = gc.isenabled()
    finally:
        gc.enable()
    assert waits
    assert goes_on == collects
