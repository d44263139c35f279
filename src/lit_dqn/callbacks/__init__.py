from lit_dqn.callbacks.checkpoints import Checkpoints
from lit_dqn.callbacks.description import RunDescription
from lit_dqn.callbacks.episode_view import EpisodeView
from lit_dqn.callbacks.journal_writer import JournalWriter
from lit_dqn.callbacks.live_view import LiveView
from lit_dqn.callbacks.maze_view import MazeView
from lit_dqn.callbacks.progress import TrainingProgress
from lit_dqn.callbacks.results import ResultsWriter, mean_with_error, standard_error
from lit_dqn.callbacks.run_folder import run_folder
from lit_dqn.callbacks.statistics import TrainingStatistics
from lit_dqn.callbacks.stopping import StoppingRules
from lit_dqn.callbacks.trajectories import TrajectoryWriter

__all__ = [
    "Checkpoints",
    "EpisodeView",
    "JournalWriter",
    "LiveView",
    "MazeView",
    "ResultsWriter",
    "RunDescription",
    "StoppingRules",
    "TrainingProgress",
    "TrainingStatistics",
    "TrajectoryWriter",
    "mean_with_error",
    "run_folder",
    "standard_error",
]
