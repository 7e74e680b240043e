"""Contracts that a new device, task, corrector, searcher or attack keeps, for your own tests."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.testing.attacks import check_attack as check_attack
    from cnet_aihw.testing.correctors import check_corrector as check_corrector
    from cnet_aihw.testing.devices import check_device as check_device
    from cnet_aihw.testing.searchers import check_searcher as check_searcher
    from cnet_aihw.testing.searchers import score_of as score_of
    from cnet_aihw.testing.searchers import small_problem as small_problem
    from cnet_aihw.testing.tasks import check_task as check_task

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
