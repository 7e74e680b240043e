"""Ray: private or a running cluster, and worker processes on it."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.cluster.machine import check_ray as check_ray
    from cnet_aihw.cluster.session import RaySession as RaySession
    from cnet_aihw.cluster.session import start_ray as start_ray
    from cnet_aihw.cluster.settings import RaySettings as RaySettings
    from cnet_aihw.cluster.settings import validate_ray_settings as validate_ray_settings
    from cnet_aihw.cluster.workers import Workers as Workers

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
