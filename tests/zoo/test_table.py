"""Tables of numbers."""

from pathlib import Path

import pytest
import torch

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.zoo import table


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
