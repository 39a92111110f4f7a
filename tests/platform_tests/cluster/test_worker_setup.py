import logging

import pytest

from gscnn_platform.cluster.worker_setup import TRANSIENT_WARNINGS, _Persisting


def test_a_transient_warning_shows_once_it_persists_and_without_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("tests.transient")
    logger.addFilter(_Persisting())
    for number in range(TRANSIENT_WARNINGS + 2):
        try:
            raise OSError(number)
        except OSError:
            logger.warning("no answer %d", number, exc_info=True)
    assert [record.getMessage() for record in caplog.records] == ["no answer 3", "no answer 4"]
    assert not any(record.exc_info for record in caplog.records)
