"""The CloudFormation template as data: read, with its intrinsic functions worked out for given parameters."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from deploy.local.servers import ROOT
from tests.deploy.conftest import Tool

PATH: Final = "deploy/ecs/template.yaml"
# PyYAML is in the environment of the tools only; CloudFormation's short forms become the long ones.
_AS_JSON: Final = """
import json, sys, yaml
class Loader(yaml.SafeLoader):
    pass
def expand(loader, suffix, node):
    deep = {} if node.id == "scalar" else {"deep": True}
    value = getattr(loader, f"construct_{node.id}")(node, **deep)
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}
Loader.add_multi_constructor("!", expand)
json.dump(yaml.load(sys.stdin, Loader), sys.stdout)
"""
_NOTHING: Final = object()

PARAMETERS: Final = {
    "VpcId": "vpc-1",
    "PublicSubnetIds": "subnet-1,subnet-2",
    "PrivateSubnetIds": "subnet-3,subnet-4",
    "CertificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/0",
    "Image": f"registry.example.com/recording-archiver@sha256:{'0' * 64}",
    "PublicUrl": "https://recordings.example.com",
    "TwilioAccountSid": "AC" + "0" * 32,
    "WebSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:web",
    "WorkerSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:worker",
    "DeleterSecretArn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:deleter",
    "BucketName": "recordings-of-acme",
}


def read(tool: Tool) -> dict[str, Any]:
    """Return the template as JSON has it."""
    read = tool("python", "-c", _AS_JSON, given=(ROOT / PATH).read_text())
    assert read.returncode == 0, read.stderr
    template: dict[str, Any] = json.loads(read.stdout)
    return template


@dataclass(frozen=True)
class Worked:
    """A template with its parameters given. What only AWS would know is written `<Resource.Attribute>`."""

    template: Mapping[str, Any]
    given: Mapping[str, str]

    def resources(self, kind: str) -> dict[str, Any]:
        """Return the properties of every resource of a kind that there would be, by its name."""
        return {
            name: self.out(each["Properties"])
            for name, each in self.template["Resources"].items()
            if each["Type"] == f"AWS::{kind}" and ("Condition" not in each or self._condition(each["Condition"]))
        }

    def out(self, node: Any) -> Any:
        """Work out a part of the template."""
        if isinstance(node, list):
            return [each for each in map(self.out, node) if each is not _NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((function, argument),) = node.items()
            if function == "Ref" or function.startswith("Fn::"):
                return self._function(function, argument)
        worked = {name: self.out(each) for name, each in node.items()}
        return {name: each for name, each in worked.items() if each is not _NOTHING}

    def _function(self, function: str, argument: Any) -> Any:
        match function:
            case "Ref":
                return self._ref(argument)
            case "Fn::GetAtt":
                return f"<{'.'.join(argument)}>"
            case "Fn::If":
                return self.out(argument[1 if self._condition(argument[0]) else 2])
            case "Fn::Join":
                return self.out(argument[0]).join(self.out(argument[1]))
            case "Fn::Sub":
                text, more = (argument, {}) if isinstance(argument, str) else argument
                values = self.out(more)
                return re.sub(r"\$\{([^}]+)\}", lambda match: str(values.get(match[1]) or self._named(match[1])), text)
        raise NotImplementedError(function)

    def _named(self, name: str) -> Any:
        return f"<{name}>" if "." in name else self._ref(name)

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        if name in self.template["Resources"]:
            return f"<{name}>"
        if name not in self.template["Parameters"]:
            return {"AWS::Region": "eu-central-1", "AWS::AccountId": "123456789012"}.get(name, f"<{name}>")
        parameter = self.template["Parameters"][name]
        value = self.given.get(name, parameter.get("Default"))
        return value.split(",") if parameter["Type"].startswith("List<") else value

    def _condition(self, name: str) -> bool:
        return self._holds(self.template["Conditions"][name])

    def _holds(self, condition: Any) -> bool:
        ((function, argument),) = condition.items()
        if function == "Fn::Not":
            return not self._holds(argument[0])
        assert function == "Fn::Equals"
        one, other = map(self.out, argument)
        return str(one) == str(other)
