"""Records of a training's epochs, one a line: whether none of them is damaged or missing."""

from pathlib import Path
from typing import Any

from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.records import read_records


def read_epochs(path: Path, epochs: int | None = None) -> list[dict[str, Any]]:
    """Return the records of epochs in their order; none where the file is missing.

    The first ones may be missing, where the file was deleted while the run was under way; so all
    that count, where the run was then killed before the checkpoint of its next epoch.

    Args:
        path: the records file.
        epochs: how many epochs were run; None: not known. Records of later ones are left out.

    Raises:
        CnetError: where a line is damaged or has no loss, or an epoch is missing or there twice.
    """
    try:
        records = read_records(path)
    except CnetError as error:
        raise _damaged(path, f"line {error.value} is not a JSON object") from error
    found: list[Any] = [record.get("epoch") for record in records]
    for line, epoch in enumerate(found, start=1):
        if not isinstance(epoch, int) or epoch < 0 or epoch - line != found[0] - 1:
            raise _damaged(path, f"line {line} is not that of the next epoch")
        if not isinstance(records[line - 1].get("loss"), int | float):
            raise _damaged(path, f"line {line} has no loss")
    kept = [record for record in records if epochs is None or record["epoch"] < epochs]
    if records and epochs and not found[0] - 1 <= epochs - 1 <= found[-1]:
        raise _damaged(path, f"its last line has epoch {found[-1]}, and {epochs} were run")
    return kept


def _damaged(path: Path, reason: str) -> CnetError:
    fix = "delete the file, to go without its curves, or its folder, to train again"
    return CnetError(
        f"{path} is damaged: {reason}; {fix}.",
        key=str(path),
        value=reason,
        expected="a line for each epoch, in their order",
        fix=fix,
    )
