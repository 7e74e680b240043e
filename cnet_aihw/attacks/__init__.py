"""Attacks on chips: how often small changes of inputs fool a network, by what is known of it."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.attacks.apgd import APGD as APGD
    from cnet_aihw.attacks.attack_chips import attack_chips as attack_chips
    from cnet_aihw.attacks.base import Attack as Attack
    from cnet_aihw.attacks.checks import Check as Check
    from cnet_aihw.attacks.comparisons import compare_attacks as compare_attacks
    from cnet_aihw.attacks.hop_skip_jump import HopSkipJump as HopSkipJump
    from cnet_aihw.attacks.networks import PixelNetwork as PixelNetwork
    from cnet_aihw.attacks.one_pixel import OnePixel as OnePixel
    from cnet_aihw.attacks.pgd import PGD as PGD
    from cnet_aihw.attacks.pixels import PixelData as PixelData
    from cnet_aihw.attacks.pixels import pixel_data as pixel_data
    from cnet_aihw.attacks.pixels import within_budget as within_budget
    from cnet_aihw.attacks.settings import AttackSettings as AttackSettings
    from cnet_aihw.attacks.settings import eps_of as eps_of
    from cnet_aihw.attacks.settings import validate_attack_settings as validate_attack_settings
    from cnet_aihw.attacks.square import Square as Square
    from cnet_aihw.attacks.statistics import AttackStatistics as AttackStatistics
    from cnet_aihw.attacks.statistics import Success as Success
    from cnet_aihw.attacks.statistics import statistics_of as statistics_of
    from cnet_aihw.attacks.statistics import wilson as wilson

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
