"""The parameters of a notebook that runs unattended: a wrong one is an error, before anything else happens.

papermill only warns of a parameter that the notebook does not have, and takes any value for one that it has.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args

from .errors import InputError

INJECTED = "# Parameters\n"
"""papermill's cell begins so."""


def check_parameters(namespace: Mapping[str, Any], /, **types: type | UnionType) -> None:
    """Refuse a notebook's parameters if papermill was given one that there is not, or a value of another type.

    Parameters
    ----------
    namespace : mapping
        The notebook's ``globals()``.
    **types : type
        The parameters that the notebook has, each with its type.

    Raises
    ------
    InputError
        If a parameter is mistyped or has the wrong type; the message says which there are.

    Examples
    --------
    >>> import enrichkit
    >>> enrichkit.check_parameters({"workers": 20, "budget_usd": None}, workers=int, budget_usd=float | None)
    >>> enrichkit.check_parameters({"workers": "20"}, workers=int)
    Traceback (most recent call last):
    ...
    enrichkit.errors.InputError: The parameter workers must be int, not '20'.
    """
    for name in _injected(namespace):
        if name not in types:
            close = difflib.get_close_matches(name, types, 1)
            hint = f" Is {close[0]} meant?" if close else ""
            raise InputError(f"The notebook has no parameter {name!r}.{hint} It has: {', '.join(types)}.")
    for name, kind in types.items():
        value = namespace[name]
        kinds = get_args(kind) or (kind,)
        whole = float in kinds and isinstance(value, int)  # a whole number is a number, too
        if not (isinstance(value, kinds) or whole) or (isinstance(value, bool) and bool not in kinds):
            told = " or ".join(one.__name__ for one in kinds).replace("NoneType", "None")
            raise InputError(f"The parameter {name} must be {told}, not {value!r}.")


def _injected(namespace: Mapping[str, Any]) -> list[str]:
    """Return the names that papermill's cell assigns."""
    cells = [source for source in namespace.get("In", ()) if source.startswith(INJECTED)]
    found = [node.targets[0] for source in cells for node in ast.parse(source).body if isinstance(node, ast.Assign)]
    return [target.id for target in found if isinstance(target, ast.Name)]
