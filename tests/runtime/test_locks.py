"""One process at a time in a folder; a dead one is in nobody's way."""

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import socket
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.locks import alone, locked

FORK = multiprocessing.get_context("fork")


def _hold(folder: Path, inside: Event) -> None:
    with alone(folder, "work", "a work"):
        inside.set()
        time.sleep(600)


def test_another_process_is_refused_until_the_first_dies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inside = FORK.Event()
    other = FORK.Process(target=_hold, args=(tmp_path, inside))
    other.start()
    try:
        assert inside.wait(60)
        with (
            pytest.raises(CnetError) as error,
            alone(tmp_path, "work", "a work"),
        ):
            pytest.fail("two are inside")
        assert (error.value.key, error.value.value) == ("work", str(tmp_path))
        assert caplog.messages == []  # it waits for nothing
        with alone(tmp_path, "else", "another work"):  # other names are free
            pass
    finally:
        os.kill(other.pid or 0, signal.SIGKILL)
        other.join()
    with alone(tmp_path, "work", "a work"):
        pass


def _wait_for(folder: Path, inside: Event) -> None:
    with locked(folder, "work"):
        inside.set()


def test_a_waiting_process_comes_in_when_the_first_is_out(tmp_path: Path) -> None:
    inside = FORK.Event()
    other = FORK.Process(target=_wait_for, args=(tmp_path, inside))
    with alone(tmp_path, "work", "a work"):
        other.start()
        assert not inside.wait(0.5)
    assert inside.wait(60)
    other.join()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CnetError) as error,
        alone(tmp_path / "file", "work", "a work"),
    ):
        pass
    assert error.value.value == str(tmp_path / "file")


@pytest.fixture(params=[None, errno.ENOSYS, errno.EOPNOTSUPP])
def _file_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With flock, and without it in the ways that kernels say so."""
    number = request.param
    if number is not None:

        def without(file: object, operation: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", without)


@pytest.mark.usefixtures("_file_system")
def test_a_lock_is_held_until_its_block_or_its_process_ends(tmp_path: Path) -> None:
    inside = FORK.Event()
    other = FORK.Process(target=_hold, args=(tmp_path, inside))
    other.start()
    try:
        assert inside.wait(60)
        with pytest.raises(CnetError) as error, locked(tmp_path, "work", seconds=0.2):
            pass
        assert (error.value.key, error.value.value) == ("work", str(tmp_path))
    finally:
        os.kill(other.pid or 0, signal.SIGKILL)
        other.join()
    for _ in range(2):
        with locked(tmp_path, "work", seconds=5.0):
            pass


def test_without_flock_the_lock_of_another_machine_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(file: object, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", without)
    owner = tmp_path / ".locks" / "work.owner"
    owner.parent.mkdir()
    owner.write_text(json.dumps([f"not-{socket.gethostname()}", 1, None]))
    with pytest.raises(CnetError) as error, alone(tmp_path, "work", "a work"):
        pass
    assert error.value.fix is not None and str(owner) in error.value.fix
    owner.unlink()  # the advice
    with alone(tmp_path, "work", "a work"):
        assert json.loads(owner.read_text())[1] == os.getpid()
    assert not owner.exists()
