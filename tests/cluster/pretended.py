"""Workers without Ray, for tests of what they are to do."""

import random
from collections.abc import Iterator
from typing import Any, ClassVar

import cloudpickle

from cnet_aihw.cluster import RaySettings


class Shuffled:
    """Workers in this process: each has a copy, and tasks are done in any order."""

    started: ClassVar[list["Shuffled"]] = []

    def __init__(self, work: Any, settings: RaySettings, name: str, key: str) -> None:
        self.settings, self.name, self.work = settings, name, work

    def __enter__(self) -> "Shuffled":
        sent = cloudpickle.dumps(self.work)
        self.copies = [cloudpickle.loads(sent) for _ in range(self.settings.workers)]
        self.started.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def results(self, tasks: Any) -> Iterator[tuple[Any, Any]]:
        shuffled = random.Random(0).sample(list(tasks), len(tasks))
        for number, task in enumerate(shuffled):
            yield task, cloudpickle.loads(cloudpickle.dumps(self.copies[number % 2](task)))
