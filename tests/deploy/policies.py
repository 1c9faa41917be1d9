"""Judge requests by IAM policies as AWS documents it: an explicit Deny wins, then an Allow, and else it is refused.

Sources: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html and
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html. What the
policies here don't use is not known, and is refused with an error instead of a guess.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

IAM = Path(__file__).resolve().parents[2] / "deploy" / "iam"
_ELEMENTS = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """One action on one resource, with the condition keys that AWS would know of it."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict, hash=False)


def read_policy(name: str, **values: str) -> Policy:
    """Return a policy of deploy/iam with its placeholders filled in."""
    policy: Policy = json.loads(Template((IAM / f"{name}.json").read_text()).substitute(values))
    return policy


def is_allowed(request: Request, policies: Iterable[Policy]) -> bool:
    """Tell whether a principal of the bucket's account may do it, by all policies that apply to it together."""
    effects = {
        statement["Effect"] for policy in policies for statement in policy["Statement"] if _applies(statement, request)
    }
    assert effects <= {"Allow", "Deny"}
    return "Allow" in effects and "Deny" not in effects


def _applies(statement: Mapping[str, Any], request: Request) -> bool:
    assert set(statement) <= _ELEMENTS, f"unknown elements in {statement}"
    assert statement.get("Principal", "*") == "*", "a statement for certain principals only"
    return (
        any(_matches(each, request.action, re.IGNORECASE) for each in _listed(statement["Action"]))
        and any(_matches(each, request.resource) for each in _listed(statement["Resource"]))
        and all(
            _holds(operator, _listed(wanted), request.context.get(key))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, wanted: list[str], found: str | None) -> bool:
    if operator == "Null":
        return (found is None) == (wanted == ["true"])
    if found is None:
        return False  # without IfExists, a key that is not there matches nothing
    match operator:
        case "Bool" | "StringEquals":
            return found in wanted
        case "NumericLessThan":
            return any(float(found) < float(each) for each in wanted)
    raise NotImplementedError(operator)


def _matches(pattern: str, text: str, flags: re.RegexFlag = re.NOFLAG) -> bool:
    regex = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(regex, text, flags | re.DOTALL) is not None


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
