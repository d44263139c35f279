"""The classes of lit_dqn, read from their sources. Importing them takes seconds, and a misspelt key need not wait."""

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from lit_dqn.commands.inputs.classes import ANYTHING, NO_DEFAULT, Argument, Class, Hint
from lit_dqn.exports import EXPORTS

SECTIONS = {
    "model": "lit_dqn.training.dqn.LitDQN",
    "data": "lit_dqn.training.data.ReplayDataModule",
    "stop": "lit_dqn.callbacks.stopping.StoppingRules",
    "checkpoints": "lit_dqn.callbacks.checkpoints.Checkpoints",
    "statistics": "lit_dqn.callbacks.statistics.TrainingStatistics",
    "maze_view": "lit_dqn.callbacks.maze_view.MazeView",
    "episode_view": "lit_dqn.callbacks.episode_view.EpisodeView",
    "trajectories": "lit_dqn.callbacks.trajectories.TrajectoryWriter",
    "trainer": "lightning.pytorch.trainer.trainer.Trainer",
}
"""The sections of a config, and the classes that they configure."""

_SCALARS = {"int": "int", "float": "float", "bool": "bool", "str": "str", "None": "null"}
_FOREIGN = {
    "DiscretizeAction": {"DiscretizeAction", "Wrapper"},
    "ObservationWrapper": {"ObservationWrapper", "Wrapper"},
    "Sequential": {"Sequential", "Module"},
}
"""Base classes from other packages, with their kinds."""

_LISTS = ("Sequence", "list", "List", "tuple", "Iterable")
_MAPPINGS = ("dict", "Dict", "Mapping")


class Sources:
    """`Classes` that are read and not imported: only lit_dqn's own classes are known."""

    def section(self, name: str) -> Class | None:
        return _class(*SECTIONS[name].rsplit(".", 1)) if name in SECTIONS else None

    def named(self, name: str, kind: str) -> Class | None:
        short = name.removeprefix("lit_dqn.").rpartition(".")[2]
        if "." in name and not name.startswith("lit_dqn."):
            return None
        module = EXPORTS.get(short)
        return None if module is None else _class(f"lit_dqn.{module}", short)

    def choices(self, kind: str) -> list[str]:
        classes = {name: cls for name in EXPORTS if name[0].isupper() and (cls := self.named(name, kind)) is not None}
        found = [name for name, cls in classes.items() if kind in cls.line and not cls.abstract]
        if kind != "Module":
            return found
        # Heads are modules, too, and other packages have networks of the same names.
        return [f"lit_dqn.{name}" for name in found if "Head" not in classes[name].line]

    def summary(self, module: str, name: str) -> str:
        """The first paragraph of the docstring of a class or a function; empty if it has none."""
        found = _found(module, name)
        functions = (node for node in _tree(module).body if isinstance(node, ast.FunctionDef) and node.name == name)
        node = found[1] if found is not None else next(functions, None)
        said = (ast.get_docstring(node) or "") if node is not None else ""
        return " ".join(said.split("\n\n")[0].split())


@cache
def _tree(module: str) -> ast.Module:
    """The source of a module; an empty one if it is not available."""
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)  # the spec of a package imports nothing, that of a submodule would
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder, *rest)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return ast.parse(file.read_text(encoding="utf-8"))
    return ast.Module([], [])


@cache
def _found(module: str, name: str) -> tuple[str, ast.ClassDef] | None:
    """The module that defines a class, and its source; None if it is not one of lit_dqn's."""
    for node in _tree(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("lit_dqn"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _found(str(node.module), alias.name)
    return None


@cache
def _class(module: str, name: str) -> Class | None:
    found = _found(module, name)
    if found is None:
        return None
    module, node = found
    bases = [_class(module, _name(base)) or _foreign(_name(base)) for base in node.bases]
    line = frozenset({name}).union(*(base.line for base in bases))
    methods = {method.name: method for method in node.body if isinstance(method, ast.FunctionDef)}
    abstract = any("abstractmethod" in map(_name, method.decorator_list) for method in methods.values())
    if "__init__" in methods:
        arguments, more = _arguments(module, methods["__init__"].args), methods["__init__"].args.kwarg is not None
    else:
        # A dataclass, or the arguments of its base.
        arguments = {key: argument for base in bases for key, argument in base.arguments.items()}
        more = any(base.takes_more for base in bases)
        for field in node.body:
            if isinstance(field, ast.AnnAssign):
                arguments[_name(field.target)] = Argument(
                    _hint(module, field.annotation), _default(module, field.value)
                )
    return Class(name, line, arguments, more, abstract)


def _foreign(name: str) -> Class:
    return Class(name, frozenset(_FOREIGN.get(name, {name})), takes_more=name not in ("ABC", "Enum"))


def _arguments(module: str, arguments: ast.arguments) -> dict[str, Argument]:
    positional = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return {
        argument.arg: Argument(_hint(module, argument.annotation), _default(module, default))
        for argument, default in pairs
        if argument.arg != "self"
    }


def _default(module: str, node: ast.expr | None) -> Any:
    if node is None:
        return NO_DEFAULT
    try:
        return ast.literal_eval(node)
    except ValueError:
        made = node.func if isinstance(node, ast.Call) else node
        return _class(module, _name(made)) or NO_DEFAULT


def _hint(module: str, node: ast.expr | None) -> Hint:
    """The values that an annotation allows."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    if isinstance(node, ast.Constant) and node.value is None:
        return Hint(frozenset({"null"}))
    if isinstance(node, ast.BinOp):
        return _hint(module, node.left) | _hint(module, node.right)
    if isinstance(node, ast.Name | ast.Attribute):
        name = _name(node)
        if name in _SCALARS:
            return Hint(frozenset({_SCALARS[name]}))
        found, cls = _found(module, name), _class(module, name)
        if found is None or cls is None:
            return ANYTHING
        if "Enum" in cls.line:
            members = [part for part in found[1].body if isinstance(part, ast.Assign)]
            return Hint(choices=tuple(_name(member.targets[0]) for member in members))
        return Hint(kinds=(name,))
    if isinstance(node, ast.Subscript):
        name, inner = _name(node.value), node.slice
        parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
        if name in ("Optional", "Union"):
            union = Hint(frozenset({"null"} if name == "Optional" else ()))
            for part in parts:
                union = union | _hint(module, part)
            return union
        if name in _LISTS:
            return Hint(items=_hint(module, parts[0]))
        if name in _MAPPINGS:
            return Hint(frozenset({"mapping"}))
        if name == "Callable" and len(parts) == 2:
            return Hint(kinds=(_name(parts[1]),))
    return ANYTHING


def _name(node: ast.expr) -> str:
    """The last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
