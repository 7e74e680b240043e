"""Errors of the work in a worker are those that it would raise without workers; no Ray runs."""

import pickle
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from cnet_aihw.cluster.settings import RaySettings
from cnet_aihw.cluster.workers import Workers, _result
from cnet_aihw.evaluation import AllChipsFailed
from cnet_aihw.runtime.errors import CnetError


class TaskError(Exception):
    """Stands for Ray's error around that of a task."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("my_networks.py, line 12")
        self.cause = cause


class Died(Exception):
    """Stands for Ray's error of a worker that died."""


def result(monkeypatch: pytest.MonkeyPatch, error: Exception) -> Any:
    def get(ref: object) -> None:
        raise error

    names = {"RayTaskError": TaskError, "RayActorError": Died, "OutOfMemoryError": Died}
    fake = SimpleNamespace(get=get, exceptions=SimpleNamespace(**names))
    monkeypatch.setitem(sys.modules, "ray", fake)
    return _result("ref", 3)


@pytest.mark.parametrize(
    "error",
    [
        CnetError("lr is 0; give more.", key="lr", value=0, expected="more", fix="give more"),
        AllChipsFailed("all of 3 chips fail.", key="chips", value=3),
        ZeroDivisionError("division by zero"),
    ],
)
def test_an_error_of_the_work_is_raised_as_it_is(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    sent = pickle.loads(pickle.dumps(error))
    with pytest.raises(type(error)) as raised:
        result(monkeypatch, TaskError(sent))
    assert type(raised.value) is type(error)
    fields = dict(vars(raised.value))
    notes = fields.pop("__notes__", [])  # a sentence needs no trace; all else shows its own
    wanted = [] if isinstance(error, CnetError) else ["In the worker:\nmy_networks.py, line 12"]
    assert (str(raised.value), fields, notes) == (str(error), vars(error), wanted)
    assert raised.value.__context__ is None  # nothing that holds workers until it is collected
    entry = raised.value.__traceback__
    while entry is not None and entry.tb_frame.f_code is not _result.__code__:
        entry = entry.tb_next
    assert entry is not None and raised.value not in entry.tb_frame.f_locals.values()


def test_a_worker_that_died_too_often_is_named_with_its_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(CnetError) as raised:
        result(monkeypatch, Died("gone"))
    assert (raised.value.key, raised.value.value) == ("ray.workers", 3)


def test_a_work_that_cannot_be_sent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever error that is: torch raises a RuntimeError for parametrized modules."""

    class RayError(Exception):
        """Stands for an error of Ray itself."""

    def put(work: object) -> None:
        raise RuntimeError("Serialization of parametrized modules is not supported.\nSee: there")

    fake = SimpleNamespace(put=put, exceptions=SimpleNamespace(RayError=RayError))
    monkeypatch.setitem(sys.modules, "ray", fake)
    workers = Workers(str, RaySettings(workers=2), "chips", "measurement")
    with pytest.raises(CnetError) as raised:
        workers._start()
    assert (raised.value.key, raised.value.value) == ("measurement", "type")
    assert raised.value.fix == "ray.workers=0"
    assert "\n" not in str(raised.value)


def test_a_ray_that_ended_is_not_a_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "The actor died unexpectedly.\nThe actor is dead because its owner has died. Owner Id: 01"
    )
    with pytest.raises(CnetError) as raised:
        result(monkeypatch, Died(said))
    assert (raised.value.key, raised.value.fix) == ("ray", "give the same command again")
