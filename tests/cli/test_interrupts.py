"""What asks a verb to end ends it, whatever a library makes of it."""

from __future__ import annotations

import signal
import threading

import pytest

from asrprune.cli.interrupts import Terminated, terminated_in_order

ENDS = [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]


def asked(number: signal.Signals) -> None:
    """The signal, within a library that makes an error of its own of whatever comes."""
    try:
        signal.raise_signal(number)
    except BaseException:
        raise RuntimeError("unexpected pos 8064 vs 7958") from None


@pytest.mark.parametrize(("number", "raised"), ENDS)
def test_a_library_does_not_hide_it(number: signal.Signals, raised: type[BaseException]) -> None:
    before = signal.getsignal(number)
    with pytest.raises(raised), terminated_in_order():
        asked(number)
    assert signal.getsignal(number) is before


def test_errors_stay_errors() -> None:
    with pytest.raises(ZeroDivisionError), terminated_in_order():
        raise ZeroDivisionError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_handling_of_a_callers_own_stays(number: signal.Signals) -> None:
    met = []
    before = signal.signal(number, lambda *_: met.append(number))
    try:
        with terminated_in_order():
            signal.raise_signal(number)
        assert met == [number]
    finally:
        signal.signal(number, before)


def test_beside_the_main_thread_nothing_is_handled() -> None:
    found = []

    def run() -> None:
        with terminated_in_order():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
