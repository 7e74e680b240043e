from .coordinate import CoordinateSearcher as CoordinateSearcher
from .evolution import EvolutionSearcher as EvolutionSearcher
from .exhaustive import ExhaustiveSearcher as ExhaustiveSearcher
from .greedy import GreedySearcher as GreedySearcher
from .protocol import Searcher as Searcher
from .random import RandomSearcher as RandomSearcher
from .surrogate import SurrogateSearcher as SurrogateSearcher
from .tpe import TPESearcher as TPESearcher
