"""One small object per published rule: the loss of each transition of a batch."""

from lit_dqn.learning.objectives.categorical import C51, CategoricalQLearning, CategoricalTarget, HLGauss
from lit_dqn.learning.objectives.implicit import ImplicitQuantileLearning
from lit_dqn.learning.objectives.munchausen import Munchausen, MunchausenQLearning
from lit_dqn.learning.objectives.objective import Objective
from lit_dqn.learning.objectives.prediction import ActorCritic, TDLearning
from lit_dqn.learning.objectives.q_learning import DoubleQLearning, QLearning
from lit_dqn.learning.objectives.quantile import QuantileRegression

__all__ = [
    "C51",
    "ActorCritic",
    "CategoricalQLearning",
    "CategoricalTarget",
    "DoubleQLearning",
    "HLGauss",
    "ImplicitQuantileLearning",
    "Munchausen",
    "MunchausenQLearning",
    "Objective",
    "QLearning",
    "QuantileRegression",
    "TDLearning",
]
