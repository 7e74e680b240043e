"""Search with Ray and RLlib: the agent, its networks, parallel evaluation and monitoring."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.search.rllib.monitor import SearchMonitor as SearchMonitor
    from cnet_aihw.search.rllib.ppo import PPOSearcher as PPOSearcher
    from cnet_aihw.search.rllib.workers import EvaluationWorkers as EvaluationWorkers

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
