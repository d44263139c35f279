from lit_dqn.envs.actions import MOST_COMBINATIONS, CombinedSpace
from lit_dqn.envs.atari.scores import human_normalised_score, random_and_human
from lit_dqn.envs.atari.vec import AtariProtocol, is_atari
from lit_dqn.envs.checks import check_finite, check_first_step
from lit_dqn.envs.grid.world import register_grid_worlds
from lit_dqn.envs.make import Wrapper, env_name, make_env, make_env_with_pictures, make_vec
from lit_dqn.envs.maximization_bias import register_maximization_bias
from lit_dqn.envs.minatar import register_minatar
from lit_dqn.envs.observations import RowSpace, is_image, stored_dtype
from lit_dqn.envs.t_maze import register_t_maze

__all__ = [
    "MOST_COMBINATIONS",
    "AtariProtocol",
    "CombinedSpace",
    "RowSpace",
    "Wrapper",
    "check_finite",
    "check_first_step",
    "env_name",
    "human_normalised_score",
    "is_atari",
    "is_image",
    "make_env",
    "make_env_with_pictures",
    "make_vec",
    "random_and_human",
    "stored_dtype",
]

register_grid_worlds()
register_maximization_bias()
register_minatar()
register_t_maze()
