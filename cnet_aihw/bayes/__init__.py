"""Uncertainty of predictions on chips: samples from devices, scores, corrections, baselines."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.bayes.baselines import deep_ensemble as deep_ensemble
    from cnet_aihw.bayes.baselines import deterministic as deterministic
    from cnet_aihw.bayes.baselines import mc_dropout as mc_dropout
    from cnet_aihw.bayes.correction import LogitCorrection as LogitCorrection
    from cnet_aihw.bayes.correction import LogitScales as LogitScales
    from cnet_aihw.bayes.correction import fit_logits as fit_logits
    from cnet_aihw.bayes.evaluate import evaluate_uncertainty as evaluate_uncertainty
    from cnet_aihw.bayes.laplace import LastLayerLaplace as LastLayerLaplace
    from cnet_aihw.bayes.sampling import predict as predict
    from cnet_aihw.bayes.scores import reliability as reliability
    from cnet_aihw.bayes.scores import uncertainty_scores as uncertainty_scores
    from cnet_aihw.bayes.settings import UncertaintySettings as UncertaintySettings
    from cnet_aihw.bayes.settings import (
        validate_uncertainty_settings as validate_uncertainty_settings,
    )
    from cnet_aihw.bayes.statistics import UncertaintyRow as UncertaintyRow
    from cnet_aihw.bayes.statistics import UncertaintyStatistics as UncertaintyStatistics

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
