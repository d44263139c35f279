"""The trials of a search, in a database that several processes may share. Only this file uses Optuna."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lit_dqn.commands.studies.changes import changes, differences
from lit_dqn.commands.tuning.description import Search, without_password
from lit_dqn.commands.tuning.rows import DONE, FAILED, PRUNED, RUNNING, Row, Trial
from lit_dqn.commands.tuning.space import Choices
from lit_dqn.errors import ConfigError, TrainingError, one_line

try:
    import optuna
    import sqlalchemy.exc
    from optuna.trial import TrialState
except ImportError as error:
    raise ConfigError("tune: Optuna is not installed; pip install 'lit-dqn[tune]'.") from error

PLACE, RETURNS, REASON, SETTINGS, BASE = "place", "returns", "reason", "settings", "base"
"""Attributes of a trial: its owner, the return of each seed, the reason of a failure; of a search: its settings."""

STATES = {
    TrialState.COMPLETE: DONE,
    TrialState.PRUNED: PRUNED,
    TrialState.FAIL: FAILED,
    TrialState.RUNNING: RUNNING,
    TrialState.WAITING: RUNNING,
}

STARTUP = 10
"""The number of first trials that are drawn at random."""


class Trials:
    """A search in a storage.

    Args:
        search: the search.
        settings: everything that defines the score of a trial, as plain values, with the whole config of the base under
            `base`; those of an existing search must be the same.
        place: the name of this folder among all that share the storage: a process may resume the trials of earlier
            processes in the same folder.

    Raises:
        ConfigError: if the storage cannot be used, or has a search of that name with other settings.

    """

    def __init__(self, search: Search, settings: Mapping[str, Any], place: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self._search, self._place = search, place
        prune = search.prune
        pruner = (
            optuna.pruners.NopPruner()
            if prune is None
            else optuna.pruners.MedianPruner(prune.after_trials, prune.after_evaluations)
        )
        # SQLite allows one writer at a time, and the others wait.
        more = {"connect_args": {"timeout": 60}} if search.storage.startswith("sqlite") else {}
        try:
            self._storage = optuna.storages.get_storage(optuna.storages.RDBStorage(search.storage, engine_kwargs=more))
            self._study = optuna.create_study(
                storage=self._storage, study_name=search.name, direction="maximize", pruner=pruner, load_if_exists=True
            )
        except Exception as error:  # each database driver has its own types
            raise ConfigError(
                f"storage: {without_password(search.storage)} cannot be used ({without_password(one_line(error))}); "
                "see that the database is there and its driver installed, such as psycopg for PostgreSQL."
            ) from error
        self._id = self._storage.get_study_id_from_name(search.name)
        then = self._study.user_attrs.get(SETTINGS)
        if then is None:
            self._study.set_user_attr(SETTINGS, dict(settings))
            return
        now = dict(settings)
        of_base = changes(then.pop(BASE, {}), now.pop(BASE, {}))
        for key, before, after in (*of_base, *differences(then, now)):
            raise ConfigError(
                f"{key}: the search {search.name} was begun with {before}, and would resume with {after}; give it that "
                "or another name and folder."
            )

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """If the database fails, end the search with one sentence.

        Raises:
            TrainingError: if it fails.

        """
        try:
            yield
        except (optuna.exceptions.StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
            raise TrainingError(
                f"storage: {without_password(self._search.storage)} broke off "
                f"({without_password(one_line(error))}); once it is there again, the same command resumes."
            ) from error

    # --- starting trials ---

    def any_of_this_place(self) -> bool:
        """Whether a process in this folder has started a trial."""
        return any(trial.user_attrs.get(PLACE) == self._place for trial in self._study.get_trials(deepcopy=False))

    def begin(self) -> Trial | None:
        """A new trial, owned by this place from the start; None if all have been started."""
        if len(self._study.get_trials(deepcopy=False)) >= self._search.trials:
            return None
        mine = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs={PLACE: self._place})
        trial_id = self._storage.create_new_trial(self._id, mine)
        number = self._storage.get_trial_number_from_id(trial_id)
        if number >= self._search.trials:  # another process was faster
            self.fail(Trial(number, {}), "one more than the search has")
            return None
        return self._suggested(number)

    def interrupted(self) -> list[int]:
        """Numbers of unfinished trials of this place; a process may be running them."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return [trial.number for trial in running if trial.user_attrs.get(PLACE) == self._place]

    def again(self, number: int) -> Trial | None:
        """An interrupted trial, to resume; None if it has ended."""
        trial = self._study.get_trials(deepcopy=False)[number]
        return self._suggested(number) if trial.state == TrialState.RUNNING else None

    def _suggested(self, number: int) -> Trial:
        # Only its number seeds a trial, so that its values do not depend on interruptions of the search.
        seed = int(np.random.SeedSequence(number).generate_state(1)[0])
        self._study.sampler = optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True
        )
        asked, chosen = self._handle(number), {}
        for key, dimension in self._search.space.items():
            if isinstance(dimension, Choices):
                name = asked.suggest_categorical(key, dimension.names)
                chosen[key] = dimension.values[dimension.names.index(str(name))]
            elif dimension.whole:
                low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
                chosen[key] = asked.suggest_int(key, low, high, step=step, log=dimension.log)
            else:
                chosen[key] = asked.suggest_float(
                    key, dimension.low, dimension.high, step=dimension.step, log=dimension.log
                )
        return Trial(number, chosen)

    def _handle(self, number: int) -> optuna.trial.Trial:
        return optuna.trial.Trial(self._study, self._storage.get_trial_id_from_study_id_trial_number(self._id, number))

    # --- results ---

    def reported(self, trial: Trial) -> int:
        """The number of evaluations of a trial in the storage."""
        return len(self._study.get_trials(deepcopy=False)[trial.number].intermediate_values)

    def report(self, trial: Trial, number: int, value: float) -> None:
        """Store an evaluation, counted from 0, as the mean over seeds."""
        self._handle(trial.number).report(value, number)

    def is_hopeless(self, trial: Trial) -> bool:
        """Whether it should end after its last evaluation."""
        return self._handle(trial.number).should_prune()

    def complete(self, trial: Trial, returns: list[float]) -> None:
        """Store the mean test return of each seed."""
        self._set(trial, RETURNS, returns)
        self._study.tell(trial.number, sum(returns) / len(returns))

    def prune(self, trial: Trial) -> None:
        """Mark it as ended early."""
        self._study.tell(trial.number, state=TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str) -> None:
        """Mark it as failed."""
        self._set(trial, REASON, reason)
        self._study.tell(trial.number, state=TrialState.FAIL)

    def _set(self, trial: Trial, key: str, value: Any) -> None:
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)
        self._storage.set_trial_user_attr(trial_id, key, value)

    # --- reading ---

    def best(self) -> float | None:
        """The highest mean return of a finished trial; None while there is none."""
        return max((row.value for row in self.rows() if row.state == DONE and row.value is not None), default=None)

    def rows(self) -> list[Row]:
        """All trials, of all places, in the order of their numbers."""
        return [self._row(trial) for trial in self._study.get_trials(deepcopy=False)]

    def _row(self, found: optuna.trial.FrozenTrial) -> Row:
        chosen = {}
        for key, dimension in self._search.space.items():
            if key in found.params:
                value = found.params[key]
                chosen[key] = (
                    dimension.values[dimension.names.index(value)] if isinstance(dimension, Choices) else value
                )
        evaluations = tuple(value for _, value in sorted(found.intermediate_values.items()))
        state = STATES[found.state]
        value = found.value if state == DONE else evaluations[-1] if evaluations else None
        attributes = found.user_attrs
        return Row(
            Trial(found.number, chosen),
            state,
            value,
            tuple(attributes.get(RETURNS, ())),
            evaluations,
            str(attributes.get(REASON, "")),
        )

    def importances(self) -> dict[str, float]:
        """The importance of each key for good returns (PED-ANOVA); the sum is 1; empty if unknown."""
        if sum(row.state == DONE for row in self.rows()) < STARTUP:
            return {}  # with few trials it would be noise
        try:
            return optuna.importance.get_param_importances(
                self._study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
        except (RuntimeError, ValueError, ZeroDivisionError):  # all trials are alike
            return {}
