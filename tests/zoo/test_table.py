"""Tables of numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import Dataset, table


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    lines = [f"{n},{n % 7},5,{'b' if n % 3 else 'a'}" for n in range(60)]
    path.write_text("\n".join(["u,v,w,label", *lines]))
    return path


def test_columns_are_normalised_by_the_training_part(rows: Path) -> None:
    data = table(rows)
    assert (data.classes, data.class_names, data.input_shape) == (2, ("a", "b"), (3,))
    assert [len(part) for part in (data.train, data.val, data.test)] == [42, 9, 9]
    torch.testing.assert_close(data.train.x.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    std = data.train.x.std(0, unbiased=False)
    torch.testing.assert_close(std, torch.tensor([1.0, 1.0, 0.0]))  # the last one is constant
    x = torch.cat([data.train.x, data.val.x, data.test.x])
    y = torch.cat([data.train.y, data.val.y, data.test.y])
    number = torch.argsort(torch.argsort(x[:, 0]))  # the first column counts the rows
    assert torch.equal(y, (number % 3 > 0).long())


def test_numbers_are_normalised_too(rows: Path) -> None:
    lines = rows.read_text().splitlines()[1:]
    rows.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    rows.write_text("\n".join(f"{n},{2 * n + 1}" for n in range(50)))
    data = table(rows, target="number", val_size=10, test_size=10)
    assert (data.classes, data.train.y.shape) == (1, (30, 1))
    torch.testing.assert_close(data.test.y, data.test.x)  # a line without noise


def test_bundled_sets() -> None:
    assert (table("wine").classes, table("wine").input_shape) == (3, (13,))
    data = table("diabetes", target="number")
    assert sum(len(part) for part in (data.train, data.val, data.test)) == 442


@pytest.mark.parametrize(
    ("content", "target", "value"),
    [
        ("1,2,a\n1,2\n", "class", 2),
        ("1,2,a\n1,x,b\n", "class", "x"),
        ("1,2,a\n1,nan,b\n", "class", "nan"),
        ("1,2,a\n1,3,b\n", "number", "a"),
        ("1,2,a\n1,3,b\n1,4,c\n", "class", "class"),
    ],
)
def test_cells_that_cannot_be(tmp_path: Path, content: str, target: str, value: object) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(CnetError) as error:
        table(path, target=target)
    assert error.value.value == value


def test_a_table_that_is_not_there() -> None:
    with pytest.raises(CnetError) as error:
        table("absent.csv")
    assert error.value.key == "path"


def whole(data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    parts = (data.train, data.val, data.test)
    return torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts])


def written(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_numbers_far_from_0_keep_their_differences(tmp_path: Path) -> None:
    # times of day in seconds since 1970, of which float32 keeps hours
    path = written(tmp_path / "t.csv", *(f"{n},{1_600_000_000 + n}" for n in range(60)))
    data = table(path, target="number")
    torch.testing.assert_close(data.train.y, data.train.x)
    assert len(whole(data)[1].unique()) == 60


def test_a_number_is_one_class_in_any_writing(tmp_path: Path) -> None:
    writings = ("0", "1", "1.0", "1e0", "10")
    path = written(tmp_path / "t.csv", *(f"{n},{writings[n % 5]}" for n in range(60)))
    data = table(path)
    assert data.class_names == ("0", "1", "10")
    x, y = whole(data)
    number = torch.argsort(torch.argsort(x[:, 0]))
    assert torch.equal(y, torch.tensor([0, 1, 1, 1, 2])[number % 5])


def test_names_that_are_not_all_numbers_stay_apart_in_one_order(tmp_path: Path) -> None:
    names = ("1", "b", "01", "1.0", "a")
    path = written(tmp_path / "t.csv", *(f"{n},{names[n % 5]}" for n in range(60)))
    assert table(path).class_names == ("01", "1", "1.0", "a", "b")


ROWS = tuple(f"{n},{n % 7},{'ab'[n % 2]}" for n in range(40))


@pytest.mark.parametrize("first", ["?,1,a", "nan,1,a", ",1,a", ",u,y", "u,3,y", "NA,?,a"])
def test_a_first_row_with_a_missing_value_is_not_taken_for_names(
    tmp_path: Path, first: str
) -> None:
    with pytest.raises(CnetError, match="line 1 of") as error:
        table(written(tmp_path / "t.csv", first, *ROWS))
    assert error.value.key == "path"


@pytest.mark.parametrize(
    ("row", "value", "line"),
    [
        *(("1,2,", "", 43), ("1,2,nan", "nan", 43), ("1e200,2,a", "1e200", 43)),
        *(("1,2,NA", "NA", 43), ("1,2,?", "?", 43), ("1,2,null", "null", 43)),
    ],
)
def test_rows_that_cannot_be_learned_from_are_named_by_their_line(
    tmp_path: Path, row: str, value: str, line: int
) -> None:
    with pytest.raises(CnetError, match=f"line {line} of") as error:
        table(written(tmp_path / "t.csv", "u,v,y", *ROWS, "", row))
    assert error.value.value == value
    with pytest.raises(CnetError, match="line 3 of"):
        table(written(tmp_path / "n.csv", "u,y", "1,2", "1,x", "1,2"), target="number")


def test_numbers_that_are_taken_for_classes_are_named() -> None:
    with pytest.raises(CnetError) as error:
        table("diabetes")
    assert error.value.key == "target"
    assert "data.target=number" in error.value.fix


def test_missing_classes_are_not_a_class_of_their_own(tmp_path: Path) -> None:
    rows = [f"{n},{n % 7},{('a', 'b', 'NA')[n % 3]}" for n in range(60)]
    with pytest.raises(CnetError, match="line 3 of") as error:
        table(written(tmp_path / "t.csv", *rows))
    assert (error.value.key, error.value.value) == ("path", "NA")
    called = [row.replace("NA", "none") for row in rows]
    assert table(written(tmp_path / "t.csv", *called)).class_names == ("a", "b", "none")


def test_one_number_in_all_rows_leaves_nothing_to_be_found(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", *(f"{n},0.1" for n in range(60)))
    with pytest.raises(CnetError) as error:
        table(path, target="number")
    assert (error.value.key, error.value.value) == ("path", 0.1)


def test_sizes_may_be_numpys() -> None:
    one, other = table("iris", test_size=30), table("iris", test_size=np.int64(30))
    assert one.fingerprint == other.fingerprint
