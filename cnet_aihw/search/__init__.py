"""Searching for a placement: the problem, its evaluation, the searchers (CorrectNet, step 3)."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.search.budgeted import BudgetSpent as BudgetSpent
    from cnet_aihw.search.budgeted import Evaluations as Evaluations
    from cnet_aihw.search.budgeted import Observer as Observer
    from cnet_aihw.search.budgeted import TraceRow as TraceRow
    from cnet_aihw.search.env import PlacementEnv as PlacementEnv
    from cnet_aihw.search.evaluators import CompensationSupernet as CompensationSupernet
    from cnet_aihw.search.evaluators import FitEvaluator as FitEvaluator
    from cnet_aihw.search.evaluators import PerChipEvaluator as PerChipEvaluator
    from cnet_aihw.search.evaluators import PlacementEvaluator as PlacementEvaluator
    from cnet_aihw.search.evaluators import SupernetEvaluator as SupernetEvaluator
    from cnet_aihw.search.from_network import placement_problem as placement_problem
    from cnet_aihw.search.problem import CandidateLayer as CandidateLayer
    from cnet_aihw.search.problem import Choice as Choice
    from cnet_aihw.search.problem import Encoding as Encoding
    from cnet_aihw.search.problem import PlacementProblem as PlacementProblem
    from cnet_aihw.search.run import SearchResult as SearchResult
    from cnet_aihw.search.run import run_search as run_search
    from cnet_aihw.search.scores import Evaluation as Evaluation
    from cnet_aihw.search.searchers import SearchContext as SearchContext
    from cnet_aihw.search.searchers import Searcher as Searcher
    from cnet_aihw.search.settings import ObjectiveSettings as ObjectiveSettings
    from cnet_aihw.search.settings import SpaceSettings as SpaceSettings
    from cnet_aihw.search.settings import validate_objective_settings as validate_objective_settings
    from cnet_aihw.search.settings import validate_space_settings as validate_space_settings
    from cnet_aihw.search.store import EvaluationStore as EvaluationStore

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
