"""How a job ends: one message for what a user can fix, a traceback for a fault of ours."""

import json
import signal
from collections.abc import Callable

import pytest

from gscnn_platform.command_line import user_errors
from gscnn_platform.config import TrainingConfig
from gscnn_platform.interrupts import TrainingStoppedError


def raises(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize(
    ("call", "status", "message"),
    [
        (raises(ValueError("--store is missing")), 1, "--store is missing"),
        (lambda: TrainingConfig(epochs=0), 1, "epochs is 0: must be 1 or more"),
        (raises(PermissionError(13, "Permission denied", "/etc/x.html")), 1, "/etc/x.html: Permission denied"),
        (
            raises(OSError(28, "No space left on device")),
            1,
            "a file of this job, or its output: No space left on device",
        ),
        (raises(TrainingStoppedError("stopped after step 3", signal.SIGINT)), 130, "stopped after step 3"),
        (raises(TrainingStoppedError("stopped by the sweep", None)), 143, "stopped by the sweep"),
    ],
)
def test_what_a_user_can_fix_is_one_message_without_a_class_name(
    call: Callable[[], object], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped, user_errors():
        call()
    assert stopped.value.code == status
    assert capsys.readouterr().err == f"\n{message}\n"


@pytest.mark.parametrize(
    "error",
    [
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        json.JSONDecodeError("Expecting value", "", 0),
        KeyError("x"),
        OSError("of a network"),
    ],
)
def test_a_fault_of_ours_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error)), user_errors():
        raise error
