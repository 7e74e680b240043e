"""Singular value that the Lipschitz penalty pulls to, from the variation of the device."""

import math
from collections.abc import Mapping

import torch
from aihwkit.inference.noise.base import BaseNoiseModel
from torch import Tensor

from cnet_aihw.rram.crossbar.perturbation import Perturbation
from cnet_aihw.rram.devices.chip_scope import chip_scope
from cnet_aihw.rram.devices.noise import DeviceNoiseModel, MultiplicativeNoiseModel
from cnet_aihw.runtime.errors import CnetError
from cnet_aihw.runtime.random_state import derive_seed, seeded_rng
from cnet_aihw.runtime.typed import checked


@checked
def lipschitz_lambda(
    noise_model: BaseNoiseModel,
    k: float = 1.0,
    weights: Mapping[str, Tensor] | None = None,
    samples: int | None = None,
    seed: int = 0,
    t_inference: float | None = None,
    scales: Mapping[str, Tensor] | None = None,
) -> float:
    r"""Singular value at which a layer does not amplify an error at three sigma of the variation.

    .. math:: \lambda = k / (\mu + 3 s)

    with mean and standard deviation of the factor on a weight. They are in closed form for a noise
    model that is a factor; for any other they are fitted to samples on the weights themselves:
    :math:`\mu = \langle w', w\rangle / \langle w, w\rangle` and
    :math:`s = \mathrm{rms}(w' - \mu w) / \mathrm{rms}(w)` over all tiles, w' programmed and read
    once, w and w' in the network's units.
    Source: CorrectNet (DATE 2023), step 1, as we read the paper; the samples are ours.

    Args:
        noise_model: any aihwkit noise model.
        k: Lipschitz constant wanted of a layer.
        weights: nominal weights of each tile, [out, in], in the tile's units; needed where there is
            no closed form.
        samples: how often each tile is programmed for the fit; None: 8 times, and 256 times where
            all tiles of a chip share a part of the variation, which each sample has but once.
        seed: seed of those samples; torch's generators are left as they were.
        t_inference: seconds since programming at which they are read; None: just programmed.
        scales: what turns the tile's units into the network's, [out, 1] or [1, 1], by tile; a tile
            that is not named has 1.

    Returns:
        lambda; 0.340 for the lognormal with sigma 0.5.

    Raises:
        CnetError: if samples are needed and no weights are given, or they are all zero.
    """
    if isinstance(noise_model, MultiplicativeNoiseModel) and noise_model.multiplicative:
        mean, std = noise_model.factor_moments()
        return k / (mean + 3 * std)
    if not weights:
        raise CnetError(
            f"{type(noise_model).__name__} has no closed form for lambda; "
            "give the weights it acts on, or lambda itself.",
            key="lambda",
            value=type(noise_model).__name__,
            expected="a noise model with a closed form, or weights",
            fix="give the weights it acts on, or lambda itself",
        )
    if samples is None:
        models = noise_model.chain() if isinstance(noise_model, DeviceNoiseModel) else ()
        shared = any(getattr(model, "sigma_die", 0.0) > 0.0 for model in models)
        samples = 256 if shared else 8
    cross, square, noisy_square, one = 0.0, 0.0, 0.0, torch.ones(1)
    with torch.no_grad():
        for name, weight in weights.items():
            nominal, scale = weight.detach().cpu(), (scales or {}).get(name, one).detach().cpu()
            wanted = nominal.double() * scale
            for sample in range(samples):
                own = derive_seed(seed, "lambda", name, sample)
                with seeded_rng(own), chip_scope(derive_seed(seed, "lambda", sample)):
                    chip = Perturbation.draw(noise_model, nominal, t_inference)
                    noisy = chip.apply(nominal, "straight_through").double() * scale
                cross += torch.sum(noisy * wanted).item()
                square += torch.sum(wanted**2).item()
                noisy_square += torch.sum(noisy**2).item()
    if square == 0:
        raise CnetError(
            "all weights are zero, so that lambda cannot be sampled; give lambda.",
            key="lambda",
            value=0.0,
            expected="weights that are not all zero",
            fix="give lambda",
        )
    mean = cross / square
    variance = noisy_square / square - mean**2  # <w' - mu w, w' - mu w> / <w, w>
    return k / (mean + 3 * math.sqrt(max(variance, 0.0)))
