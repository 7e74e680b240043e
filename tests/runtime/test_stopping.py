"""SIGTERM and SIGHUP end a command as Ctrl-C does."""

import os
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from cnet_aihw.runtime.stopping import same_handlers, stoppable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_interrupt_inside_the_block_alone(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    signal.signal(number, signal.default_int_handler)  # what starts tests may ignore Ctrl-C
    try:
        with stoppable() as stop:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
            assert stop.exit_code == 128 + number
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert stop.number == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_library_that_sets_handlers_does_not_keep_them() -> None:
    with stoppable() as stop:
        ours = signal.getsignal(signal.SIGTERM)
        with same_handlers():
            signal.signal(signal.SIGTERM, lambda *_: None)
        assert signal.getsignal(signal.SIGTERM) is ours
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM


def test_an_interrupt_that_a_library_swallows_is_raised_again() -> None:
    with stoppable() as stop:
        with pytest.raises(KeyboardInterrupt):
            with suppress(BaseException):
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        assert stop.number == signal.SIGTERM
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def write_signalled_module(folder: Path, signals: int) -> Path:
    """Write a module that gets signals while it is imported; return the file of its end."""
    ended = folder / "ended"
    (folder / "signalled.py").write_text(
        "import os, pathlib, signal, time\n"
        f"for _ in range({signals}):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "time.sleep(0.3)\n"
        f"pathlib.Path({str(ended)!r}).touch()\n"
    )
    return ended


def test_an_import_ends_before_the_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiled module may not see an exception: the process would abort."""
    ended = write_signalled_module(tmp_path, signals=1)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("cnet_aihw.runtime.stopping._AGAIN", 60.0)  # not what comes in time
    with stoppable() as stop:
        with pytest.raises(KeyboardInterrupt):
            import_module("signalled")
            time.sleep(10)
        assert stop.number == signal.SIGTERM
    assert ended.exists()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    del sys.modules["signalled"]


@pytest.mark.parametrize(("signals", "patience"), [(2, 10.0), (1, 0.1)])
def test_an_import_does_not_hold_an_interrupt_back_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: int, patience: float
) -> None:
    ended = write_signalled_module(tmp_path, signals)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("cnet_aihw.runtime.stopping._PATIENCE", patience)
    with stoppable(), pytest.raises(KeyboardInterrupt):
        import_module("signalled")
    assert not ended.exists()


def test_an_interrupt_on_its_way_out_may_take_its_time() -> None:
    ended = []
    with stoppable(), pytest.raises(KeyboardInterrupt):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            try:
                time.sleep(1.5)
                raise OSError
            except OSError:
                time.sleep(1.0)
                ended.append("the state is written")
    assert ended == ["the state is written"]


def test_an_interrupt_in_the_clean_up_of_an_object_prints_nothing(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    monkeypatch.setattr("sys.unraisablehook", sys.__unraisablehook__)
    with stoppable() as stop:
        Interrupted(ValueError("seen"))
        assert "seen" in capfd.readouterr().err
        stop.number = signal.SIGTERM
        Interrupted(KeyboardInterrupt())
        assert capfd.readouterr().err == ""
    assert sys.unraisablehook is sys.__unraisablehook__
