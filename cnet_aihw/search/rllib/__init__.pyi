from .monitor import SearchMonitor as SearchMonitor
from .ppo import PPOSearcher as PPOSearcher
from .session import RaySession as RaySession
from .session import start_ray as start_ray
from .workers import EvaluationWorkers as EvaluationWorkers
