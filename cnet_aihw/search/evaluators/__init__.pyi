from .fit import FitEvaluator as FitEvaluator
from .protocol import PlacementEvaluator as PlacementEvaluator
from .shared import SharedEvaluator as SharedEvaluator
from .shared_fit import SharedCompensation as SharedCompensation
