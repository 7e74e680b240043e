"""Type hints as checks of values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.typed import (
    check_fields,
    check_type,
    checked,
    describe,
    hints_of,
    one_word,
)
from cnet_aihw.runtime.values import bad_choice, nearest
from cnet_aihw.tasks.base import Metric


@pytest.mark.parametrize(
    ("hint", "taken", "refused"),
    [
        (bool, [True, False, np.True_], ["no", 1, None, 0.0]),
        (int, [3, -1, np.int64(3)], [True, 1.5, "3", None, float("inf")]),
        (float, [1, 0.5, np.float32(2), float("inf")], [float("nan"), "1", True, 10**400]),
        (int | None, [None, 3], ["none", 2.5]),
        (str, ["", "a"], [None, 3, "a\0b"]),
        (str | Path, ["a", Path("a")], [3, b"a", "a\0b"]),
        (Literal["a", "b"], ["a"], ["c", 1]),
        (Sequence[int], [[1, 2], (), np.arange(3)], [3, "12", [1, "2"], {"a": 1}, [1.5]]),
        (tuple[int, str], [(1, "a")], [(1,), ("a", 1)]),
        (dict[str, Any], [{}], [[], "a"]),
        (Any, [None, 3, "a"], []),
    ],
)
def test_what_a_hint_takes(hint: Any, taken: list[Any], refused: list[Any]) -> None:
    for value in taken:
        check_type("x", value, hint)
    for value in refused:
        with pytest.raises(CnetError, check=lambda e: e.key == "x" and e.expected):
            check_type("x", value, hint)


def test_hints_in_words() -> None:
    assert describe(int | float | None) == "a number or none"
    assert describe(list[int]) == "a list of a whole number"
    assert describe(str | Path) == "text or a path"


def test_a_class_in_place_of_an_instance_is_named() -> None:
    with pytest.raises(CnetError, check=lambda e: e.fix == "give an instance: Path()"):
        check_type("x", Path, Path)


def test_what_a_protocol_misses_is_named() -> None:
    class Half:
        def update(self) -> None: ...

    with pytest.raises(CnetError, match="without compute;"):
        check_type("metric", Half(), Metric)


def test_arguments_are_checked_before_the_call() -> None:
    calls = []

    @checked
    def function(size: int, *rest: str, augment: bool = False) -> None:
        """A function."""
        calls.append(size)

    function(3, augment=True)
    with pytest.raises(CnetError, check=lambda e: e.key == "augment"):
        function(3, augment="no")
    with pytest.raises(TypeError, match="size"):
        function()
    assert calls == [3]
    assert function.__doc__ == "A function."


def test_an_argument_that_a_function_does_not_have_is_answered_with_those_it_has() -> None:
    @checked
    def convert(model: int, exclude: list[str] | None = None) -> int:
        return model

    with pytest.raises(TypeError, match=r"convert\(\).*'exclude_modules'.*model, exclude\."):
        convert(1, exclude_modules=["head"])  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing"):
        convert()  # type: ignore[call-arg]

    class Layer:
        @checked
        def __init__(self, size: int) -> None:
            self.size = size

    with pytest.raises(TypeError, match=r"Layer\(\).*'width'.*has size\."):
        Layer(width=2)  # type: ignore[call-arg]


def test_fields_are_checked() -> None:
    @dataclass
    class Settings:
        epochs: int = 1

    check_fields(Settings(), "training.")
    with pytest.raises(CnetError, check=lambda e: e.key == "training.epochs"):
        check_fields(Settings(epochs=True), "training.")


def test_a_class_without_an_init_of_its_own_has_no_hints() -> None:
    assert hints_of(object.__init__) == {}


@pytest.mark.parametrize(("word", "truth"), [("no", False), ("Off", False), ("YES", True)])
def test_words_of_yaml(word: str, truth: bool) -> None:
    assert one_word("x", word) is truth
    with pytest.raises(CnetError):
        one_word("x", "maybe")


def test_a_question_ends_a_sentence() -> None:
    assert str(bad_choice("way", "batch", ("batchnorm", "none"))).endswith("'batchnorm'?")
    assert str(bad_choice("way", "x", ("batchnorm", "none"))).endswith("batchnorm, none.")


def test_the_one_name_that_a_word_begins_is_meant() -> None:
    targets = ("clean", "mean_over_chips")
    assert nearest("mean", targets) == "mean_over_chips"  # "clean" is more like it
    assert nearest("cleam", targets) == "clean"
    assert nearest("mean", ("mean_a", "mean_b", "meant")) == "meant"  # several begin with it
    assert nearest("xyz", targets) is None
