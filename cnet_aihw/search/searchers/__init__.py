"""Searchers: strategies that propose placements, one file each."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.search.searchers.coordinate import CoordinateSearcher as CoordinateSearcher
    from cnet_aihw.search.searchers.exhaustive import ExhaustiveSearcher as ExhaustiveSearcher
    from cnet_aihw.search.searchers.greedy import GreedySearcher as GreedySearcher
    from cnet_aihw.search.searchers.optuna_searchers import EvolutionSearcher as EvolutionSearcher
    from cnet_aihw.search.searchers.optuna_searchers import TPESearcher as TPESearcher
    from cnet_aihw.search.searchers.protocol import SearchContext as SearchContext
    from cnet_aihw.search.searchers.protocol import Searcher as Searcher
    from cnet_aihw.search.searchers.random import RandomSearcher as RandomSearcher
    from cnet_aihw.search.searchers.spectrum import SpectrumSearcher as SpectrumSearcher
    from cnet_aihw.search.searchers.surrogate import SurrogateSearcher as SurrogateSearcher

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
