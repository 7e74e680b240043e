"""Files of conf/search: each gives a searcher, with the defaults of its class."""

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from cnet_aihw.search.searchers import SpectrumSearcher

FOLDER = Path(__file__).parents[2] / "conf" / "search"


@pytest.mark.parametrize("kind", [SpectrumSearcher])
def test_the_file_repeats_the_defaults_of_the_class(kind: type) -> None:
    node = yaml.safe_load((FOLDER / f"{kind.name}.yaml").read_text())
    searcher = node["searcher"]
    assert searcher.pop("_target_") == f"cnet_aihw.search.searchers.{kind.__name__}"
    assert searcher == asdict(kind())
    assert node["defaults"] == ["none"]
