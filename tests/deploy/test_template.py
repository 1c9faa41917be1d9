"""The CloudFormation template: it can be deployed, and each process gets what it needs and nothing more."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import boto3
import pytest

from app.queue import QUEUES
from app.settings import BeatSettings, FetchSettings, WebSettings, WorkerSettings, load
from deploy.local.processes import wait_until
from deploy.local.servers import ROOT, S3Server
from deploy.local.stack import read_procfile
from tests.deploy import template as template_file
from tests.deploy.conftest import Tool
from tests.deploy.policies import read_policy
from tests.deploy.template import PARAMETERS, Worked
from tests.deploy.test_image import instructions

MAX_INLINE_BYTES = 51_200  # of what the AWS CLI can send without a bucket to put it into
SETTINGS = {"Web": WebSettings, "Worker": WorkerSettings, "Deleter": WorkerSettings, "Beat": BeatSettings}
# The stand-in knows neither; cfn-lint has judged them by AWS's own schemas.
NOT_SIMULATED = ("AWS::ApplicationAutoScaling::", "AWS::EC2::SecurityGroupIngress")


@pytest.fixture(scope="module")
def template(tool: Tool) -> dict[str, Any]:
    return template_file.read(tool)


@pytest.fixture(scope="module")
def stack(template: dict[str, Any]) -> Worked:
    """Return the template as it is deployed by default."""
    return Worked(template, PARAMETERS)


@pytest.fixture(scope="module")
def locked(template: dict[str, Any]) -> Worked:
    """Return the template as it is deployed for the strictest duties."""
    strict = {"ObjectLockMode": "COMPLIANCE", "RetentionDays": "2192", "ArchivePrefix": "calls/"}
    strict |= {"EndpointSecurityGroupId": "sg-1", "S3PrefixListId": "pl-1", "AlarmEmail": "ops@example.com"}
    return Worked(template, PARAMETERS | strict)


def tasks(stack: Worked) -> dict[str, Any]:
    """Return each task's definition by the name of its process."""
    return {name.removesuffix("Task"): each for name, each in stack.resources("ECS::TaskDefinition").items()}


def container(task: Mapping[str, Any]) -> dict[str, Any]:
    (only,) = task["ContainerDefinitions"]
    return dict(only)


# As a whole


def test_cfn_lint_finds_nothing(tool: Tool) -> None:
    """The template passes AWS's own schemas and rules, without an ignored one."""
    judged = tool("cfn-lint", "--include-checks", "W", "--", template_file.PATH)
    assert (judged.returncode, judged.stdout) == (0, "")
    assert "cfn-lint" not in (ROOT / template_file.PATH).read_text()


def test_it_can_be_sent_as_it_is() -> None:
    """It is short enough to be deployed without a bucket to put it into."""
    assert (ROOT / template_file.PATH).stat().st_size <= MAX_INLINE_BYTES


class CloudServer(S3Server):
    """The same stand-in, with all that it has of AWS."""

    name = "cloud"

    def _environment(self) -> dict[str, str]:
        everything = super()._environment()
        del everything["SERVICES"]
        return everything


@pytest.fixture(scope="module")
def cloud() -> Iterator[CloudServer]:
    with CloudServer() as server:
        yield server


def test_a_deployment_creates_its_resources(template: dict[str, Any], cloud: CloudServer) -> None:
    """Deployed into a stand-in of AWS, every resource is created, and what refers to another one finds it."""

    def client(name: str) -> Any:
        keys = {"aws_access_key_id": cloud.access_key_id, "aws_secret_access_key": cloud.secret_access_key}
        return boto3.client(name, endpoint_url=cloud.endpoint_url, region_name="us-east-1", **keys)

    simulated = {
        name: each for name, each in template["Resources"].items() if not each["Type"].startswith(NOT_SIMULATED)
    }
    # Alarms that only scale lead to nothing without the scaling; numbers must be numbers.
    simulated = {name: each for name, each in simulated.items() if "Workers" not in json.dumps(each)} | {
        "WebService": _with_numbers(template, "WebService"),
        "WorkerService": _with_numbers(template, "WorkerService"),
    }
    with closing(client("cloudformation")) as formation, closing(client("ec2")) as ec2:
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{number}.0/24")["Subnet"]["SubnetId"] for number in range(4)
        ]
        network = {"VpcId": vpc, "PublicSubnetIds": ",".join(subnets[:2]), "PrivateSubnetIds": ",".join(subnets[2:])}
        given = PARAMETERS | network | {"ObjectLockMode": "COMPLIANCE", "AlarmEmail": "ops@example.com"}
        formation.create_stack(
            StackName="archiver",
            TemplateBody=json.dumps({**template, "Resources": simulated}, separators=(",", ":")),
            Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
        )

        def status() -> str:
            return str(formation.describe_stacks(StackName="archiver")["Stacks"][0]["StackStatus"])

        wait_until(lambda: "IN_PROGRESS" not in status(), timeout_s=20, what="deployment", interval_s=0.2)
        failed = [
            (each["LogicalResourceId"], each.get("ResourceStatusReason"))
            for each in formation.describe_stack_events(StackName="archiver")["StackEvents"]
            if "FAILED" in each["ResourceStatus"]
        ]
        assert (status(), failed) == ("CREATE_COMPLETE", [])
        made = formation.list_stack_resources(StackName="archiver")["StackResourceSummaries"]
        outputs = formation.describe_stacks(StackName="archiver")["Stacks"][0]["Outputs"]
    assert {each["LogicalResourceId"] for each in made} == set(simulated)
    assert len(made) > 45
    assert {each["OutputKey"] for each in outputs} == set(template["Outputs"])
    with closing(client("s3")) as s3, closing(client("secretsmanager")) as secrets:
        assert s3.get_bucket_versioning(Bucket=PARAMETERS["BucketName"])["Status"] == "Enabled"
        blocked = s3.get_public_access_block(Bucket=PARAMETERS["BucketName"])["PublicAccessBlockConfiguration"]
        assert set(blocked.values()) == {True}
        assert "DenyOverwriting" in s3.get_bucket_policy(Bucket=PARAMETERS["BucketName"])["Policy"]
        (url,) = [each["ARN"] for each in secrets.list_secrets()["SecretList"] if "RedisUrl" in each["Name"]]
        assert re.fullmatch(r"rediss://:.{64}@[^@]+:6379/0", secrets.get_secret_value(SecretId=url)["SecretString"])


def _with_numbers(template: Mapping[str, Any], service: str) -> dict[str, Any]:
    """Return a service whose count the stand-in can read: it takes a parameter's number for text."""
    resource = template["Resources"][service]
    count = template["Parameters"][resource["Properties"]["DesiredCount"]["Ref"]]["Default"]
    return {**resource, "Properties": {**resource["Properties"], "DesiredCount": count}}


@pytest.mark.parametrize(
    ("parameter", "right", "wrong"),
    [
        ("ArchivePrefix", ["", "calls/", "calls/2026/"], ["/", "calls", "/calls/", "calls//", "calls//2026/", "a b/"]),
        (
            "PublicUrl",
            ["https://a.example.com", "https://A.example.com:8443", "https://a.example.com/calls/x"],
            [
                "http://a.example.com",
                "https://a.example.com/",
                "https://a.example.com/recording-status",
                "https://a.example.com/calls/recording-status",
                "https://a.example.com?x=1",
                "https://a.example.com/#rc=5",
                "https://user:password@a.example.com",
                "https://a.example.com /calls",
            ],
        ),
        ("TwilioDelete", ["never", "verified", "24h"], ["Never", "24", "1.5h", "24 h", ""]),
    ],
)
def test_a_wrong_parameter_is_refused_at_once(
    template: dict[str, Any], parameter: str, right: list[str], wrong: list[str]
) -> None:
    """What its process would refuse to start with, or would read otherwise than the policies do, is not deployed."""
    pattern = template["Parameters"][parameter]["AllowedPattern"]
    assert [value for value in right if not re.fullmatch(pattern, value)] == []
    assert [value for value in wrong if re.fullmatch(pattern, value)] == []
    for value in right:
        stack = Worked(template, PARAMETERS | {parameter: value})
        web, worker = (_environment(container(tasks(stack)[name])) for name in ("Web", "Worker"))
        assert web["PUBLIC_URL"] == load(WebSettings, web).PUBLIC_URL
        assert worker["ARCHIVE_PREFIX"] == load(WorkerSettings, worker).ARCHIVE_PREFIX


# The archive


def test_the_bucket_is_kept(template: dict[str, Any]) -> None:
    """Bucket, policy, key and logs outlive the stack."""
    kept = {name for name, each in template["Resources"].items() if each.get("DeletionPolicy") == "Retain"}
    assert kept == {"Bucket", "BucketPolicy", "Key", "Logs"}
    assert all(template["Resources"][name]["UpdateReplacePolicy"] == "Retain" for name in kept)


def test_the_bucket_is_as_the_archive_needs_it(stack: Worked, locked: Worked) -> None:
    """It is versioned, private and encrypted with the key; it has Object Lock where asked for, and no expiry."""
    (bucket,) = stack.resources("S3::Bucket").values()
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == "<Key.Arn>"
    assert encryption["BucketKeyEnabled"] is True
    assert "ObjectLockEnabled" not in bucket
    (with_lock,) = locked.resources("S3::Bucket").values()
    assert with_lock["ObjectLockEnabled"] is True
    rules = {rule["Id"]: rule for rule in with_lock["LifecycleConfiguration"]["Rules"]}
    assert rules["unfinished-uploads"]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rules["cold-media"]["Prefix"] == "calls/recordings/"
    assert not [rule for rule in rules.values() if "ExpirationInDays" in rule or "Expiration" in rule]


@pytest.mark.parametrize(
    ("resource", "file"),
    [("WorkerRole", "worker"), ("DeleterRole", "deleter"), ("OperatorRole", "operator"), ("BucketPolicy", "bucket")],
)
def test_the_policies_are_those_of_the_folder(locked: Worked, resource: str, file: str) -> None:
    """What the template grants is what deploy/iam says, statement by statement."""
    if resource == "BucketPolicy":
        granted = locked.resources("S3::BucketPolicy")[resource]["PolicyDocument"]
    else:
        (only,) = locked.resources("IAM::Role")[resource]["Policies"]
        granted = only["PolicyDocument"]
    text = json.dumps(granted).replace("<Bucket.Arn>", "arn:aws:s3:::archive").replace("<Key.Arn>", "KEY")
    expected = read_policy(file, BUCKET="archive", PREFIX="calls/", KEY_ARN="KEY", REGION="eu-central-1")
    assert _normal(json.loads(text)) == _normal(expected)


def _normal(policy: Any) -> list[str]:
    statements = [
        {
            name: [value] if name in ("Action", "Resource") and isinstance(value, str) else value
            for name, value in s.items()
        }
        for s in policy["Statement"]
    ]
    return [json.dumps(each, sort_keys=True) for each in statements]


# Redis


def test_redis_takes_only_encrypted_and_known_clients(stack: Worked) -> None:
    """It speaks TLS, asks for a password that nobody has seen, and refuses messages instead of forgetting them."""
    (redis,) = stack.resources("ElastiCache::ReplicationGroup").values()
    assert redis["TransitEncryptionEnabled"] is True
    assert redis["AuthToken"] == "{{resolve:secretsmanager:<RedisPassword>}}"
    assert stack.resources("ElastiCache::ParameterGroup")["RedisParameters"]["Properties"] == {
        "maxmemory-policy": "noeviction"
    }
    assert stack.resources("SecretsManager::Secret")["RedisUrl"]["SecretString"].startswith("rediss://:{{resolve:")


# The processes


def test_every_container_is_hardened(stack: Worked) -> None:
    """None can write to its root, has a capability, is root, or is an image that could change."""
    tmp = instructions("VOLUME")[0]  # of the image, whose mode the volume gets
    for name, task in tasks(stack).items():
        only = container(task)
        assert only["ReadonlyRootFilesystem"] is True, name
        assert only["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}, name
        assert only["User"] == "10001:10001", name
        assert "@sha256:" in only["Image"], name
        assert only["MountPoints"] == [{"SourceVolume": "tmp", "ContainerPath": tmp, "ReadOnly": False}], name
        assert only["StopTimeout"] >= 30, name
        assert only["StopTimeout"] <= 120, name  # what Fargate grants


def test_every_process_starts_with_its_environment(stack: Worked, locked: Worked) -> None:
    """What a task gets are settings that exist, and its process starts with them."""
    for deployed in (stack, locked):
        for name, task in tasks(deployed).items():
            for cls in [SETTINGS[name]] if name in SETTINGS else [WebSettings, FetchSettings]:
                load(cls, _environment(container(task)))


def _environment(only: Mapping[str, Any]) -> dict[str, str]:
    """Return what a container gets, with secrets of the right form."""
    known = {name for cls in (WebSettings, FetchSettings, BeatSettings) for name in cls.model_fields}
    environment = {each["Name"]: str(each["Value"]) for each in only.get("Environment", ())}
    environment = {name: value.replace("<Bucket>", "recordings-of-acme") for name, value in environment.items()}
    secrets = {each["Name"]: each["ValueFrom"] for each in only["Secrets"]}
    assert set(environment) | set(secrets) <= known | {"AWS_DEFAULT_REGION"}
    forms = {"REDIS_URL": "rediss://:x@host:6379/0", "TWILIO_API_KEY": "SK" + "0" * 32, "TWILIO_ACCOUNTS": "[]"}
    forms |= {"NOTIFY_URL": "", "NOTIFY_SECRET": ""}  # off, for whoever wants none
    environment |= {name: forms.get(name, "x") for name in secrets}
    return environment


def test_a_secret_is_given_to_whom_it_is_for(stack: Worked) -> None:
    """Only the deleter gets the key that may delete, only web and the operator the auth token, and none is in plain.

    The operator gets what `archiver check` sends its trial notification with.
    """
    gets = {name: json.dumps(container(task)["Secrets"]) for name, task in tasks(stack).items()}
    assert {name for name, secrets in gets.items() if ":deleter" in secrets} == {"Deleter"}
    assert {name for name, secrets in gets.items() if ":auth_token" in secrets} == {"Web", "Operator"}
    assert {name for name, secrets in gets.items() if ":notify_secret" in secrets} == {"Worker", "Deleter", "Operator"}
    for name, task in tasks(stack).items():
        plain = {each["Name"] for each in container(task).get("Environment", ())}
        assert not plain & {
            "REDIS_URL",
            "TWILIO_AUTH_TOKEN",
            "TWILIO_API_SECRET",
            "WEBHOOK_PASSWORD",
            "NOTIFY_SECRET",
        }, name


def test_the_security_page_says_who_has_a_secret(stack: Worked) -> None:
    """Its table names each task that gets a secret, and no other one; Twilio's keys have a row for each of the two."""
    section = (ROOT / "deploy/security.md").read_text().partition("## What each secret can do")[2].partition("\n## ")[0]
    gets = {name.lower(): container(task)["Secrets"] for name, task in tasks(stack).items()}
    given = {each["Name"] for secrets in gets.values() for each in secrets}
    rows = [row for row in re.findall(r"(?m)^\| `(\w+)`([^|]*)\| ([^|(]+)", section) if row[0] in given]
    for name, more, who in rows:
        said = set(gets) if who.strip() == "all" else {task for task in gets if re.search(rf"\b{task}\b", who)}
        source = "".join(f":{each}:" for each in re.findall(r"of the (\w+)", more))
        asked = {each: [s["ValueFrom"] for s in secrets if s["Name"] == name] for each, secrets in gets.items()}
        assert said == {each for each, values in asked.items() if any(source in value for value in values)}, name
    in_pairs = {"TWILIO_API_SECRET", "WEBHOOK_USERNAME"}  # each told with the other one
    assert {name for name, *_ in rows} == given - in_pairs


def test_a_secret_can_be_read_by_whom_it_is_for(stack: Worked) -> None:
    """The role with which ECS starts a task reads the secrets of that task and no others."""
    roles = stack.resources("IAM::Role")
    for name, task in tasks(stack).items():
        (policy,) = roles[f"{name}ExecutionRole"]["Policies"]
        (statement,) = policy["PolicyDocument"]["Statement"]
        named = {re.sub(r":[a-z_]+::$", "", each["ValueFrom"]) for each in container(task)["Secrets"]}
        assert set(statement["Resource"]) == named, name
        assert task["ExecutionRoleArn"] == f"<{name}ExecutionRole.Arn>"


def test_web_and_beat_are_nobody_in_aws(stack: Worked) -> None:
    """They need nothing of AWS, and so they have no role at all."""
    assert {name for name, task in tasks(stack).items() if "TaskRoleArn" not in task} == {"Web", "Beat"}
    for name in ("Worker", "Deleter", "Operator"):
        assert tasks(stack)[name]["TaskRoleArn"] == f"<{name}Role.Arn>"


def test_no_role_can_do_more_than_its_policy_says(stack: Worked) -> None:
    """No task role has a managed policy, and only ECS can take a role, for this account."""
    for name, role in stack.resources("IAM::Role").items():
        if not name.endswith("ExecutionRole"):
            assert "ManagedPolicyArns" not in role, name
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
        assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_the_commands_are_the_procfiles(stack: Worked) -> None:
    """Each container runs a process of the Procfile; worker and deleter share the queues between them."""
    commands = {name: container(task)["Command"] for name, task in tasks(stack).items()}
    assert {each[0] for name, each in commands.items() if name != "Operator"} <= set(read_procfile(ROOT / "Procfile"))
    queues = [queue for each in commands.values() if "--queues" in each for queue in each[-1].split(",")]
    assert sorted(queues) == sorted(QUEUES)


def test_health_is_asked_through_the_images_entry(stack: Worked) -> None:
    """The health checks of workers and beat run the command line as the image starts it; web answers for itself."""
    (entry,) = map(json.loads, instructions("ENTRYPOINT"))
    checks = {name: container(task).get("HealthCheck", {}).get("Command") for name, task in tasks(stack).items()}
    asked = {"Worker": "worker", "Deleter": "worker", "Beat": "beat"}
    assert {name: checks[name] for name in asked} == {
        name: ["CMD", *entry, "health", process] for name, process in asked.items()
    }
    assert "/healthz" in checks["Web"][-1]
    assert checks["Operator"] is None


def test_the_way_in_is_the_callback(stack: Worked) -> None:
    """From outside only the callback and the health pages are reached, by TLS, and never with a redirect."""
    (listener,) = stack.resources("ElasticLoadBalancingV2::Listener").values()
    assert (listener["Port"], listener["Protocol"]) == (443, "HTTPS")
    assert [action["Type"] for action in listener["DefaultActions"]] == ["fixed-response"]
    (rule,) = stack.resources("ElasticLoadBalancingV2::ListenerRule").values()
    assert rule["Conditions"][0]["PathPatternConfig"]["Values"] == ["*/recording-status", "*/healthz", "*/readyz"]


def test_web_can_be_kept_from_twilio(stack: Worked, locked: Worked) -> None:
    """Web holds the auth token: with endpoints in the VPC it has no way out to where that could be used."""
    for name in ("WebSecurityGroup", "BeatSecurityGroup"):
        rules = locked.resources("EC2::SecurityGroup")[name]["SecurityGroupEgress"]
        assert not [rule for rule in rules if "CidrIp" in rule]
        assert {rule.get("DestinationPrefixListId", rule.get("DestinationSecurityGroupId")) for rule in rules} == {
            "<RedisSecurityGroup.GroupId>",
            "sg-1",
            "pl-1",
        }


# What is watched


def test_the_log_lines_that_are_counted_exist(stack: Worked) -> None:
    """Each metric comes from an event or field that the product's code writes."""
    code = "".join(path.read_text() for folder in ("app", "workers") for path in (ROOT / folder).rglob("*.py"))
    for each in stack.resources("Logs::MetricFilter").values():
        for word in re.findall(r'= "([a-z_]+)"', each["FilterPattern"]):
            assert f'"{word}"' in code or word == "error"
        field = each["MetricTransformations"][0]["MetricValue"].removeprefix("$.")
        assert field in {"1", *(f"{queue}_{what}" for queue in QUEUES for what in ("depth", "oldest_s"))}


@pytest.mark.parametrize(
    ("name", "line", "counts"),
    [
        ("Sweeps", {"event": "sweep_finished", "failed": 0}, True),
        ("Sweeps", {"event": "sweep_finished", "failed": 2}, False),
        ("Refusals", {"event": "attempt_failed", "outcome": "configuration"}, True),
        ("Refusals", {"event": "attempt_failed", "outcome": "temporary"}, False),
        ("Refusals", {"event": "sweep_failed", "outcome": "configuration"}, False),
    ],
)
def test_what_is_counted_is_what_is_meant(stack: Worked, name: str, line: dict[str, Any], counts: bool) -> None:
    """A sweep that could not read an account's list is none, and what only a person can mend is told apart."""
    (pattern,) = [
        each["FilterPattern"]
        for each in stack.resources("Logs::MetricFilter").values()
        if each["MetricTransformations"][0]["MetricName"] == name
    ]
    terms = re.fullmatch(r"\{ \((.+)\) && \((.+)\) \}", pattern)
    assert terms is not None
    wanted = dict(term.removeprefix("$.").split(" = ") for term in terms.groups())
    assert all(json.loads(value) == line.get(field) for field, value in wanted.items()) is counts


def test_alarms_reach_somebody_or_scale(stack: Worked) -> None:
    """Each alarm tells the topic or changes the number of workers, and reads a metric that there is."""
    metrics = {
        each["MetricTransformations"][0]["MetricName"] for each in stack.resources("Logs::MetricFilter").values()
    }
    for name, alarm in stack.resources("CloudWatch::Alarm").items():
        assert alarm["AlarmActions"] in (["<Alarms>"], ["<MoreWorkers>"], ["<FewerWorkers>"]), name
        assert alarm["Namespace"].startswith("AWS/") or alarm["MetricName"] in metrics, name


def test_every_alarm_is_explained(stack: Worked) -> None:
    """The page says of each alarm what it means."""
    page = (ROOT / "deploy" / "ecs" / "README.md").read_text()
    assert [name for name in stack.resources("CloudWatch::Alarm") if f"`{name}`" not in page] == []


def test_the_page_names_what_is_there(template: dict[str, Any]) -> None:
    """The commands of its page ask for outputs and resources of the template, and give parameters of it."""
    page = (ROOT / "deploy/ecs/README.md").read_text()
    outputs, resources = (set(re.findall(rf"\$\({name} (\w+)\)", page)) for name in ("output", "resource"))
    assert set() < outputs <= set(template["Outputs"])
    assert set() < resources <= set(template["Resources"])
    given = re.findall(r"(?s)--parameter-overrides (.*?)```", page)
    parameters = {
        name for each in given for name in re.findall(r"(?m)(?:^|\s)([A-Z][A-Za-z]+)=", each.partition("\naws")[0])
    }
    assert parameters <= set(template["Parameters"])
    required = {name for name, each in template["Parameters"].items() if "Default" not in each}
    assert required <= parameters
    for secret, process in (("web", "Web"), ("worker", "Worker"), ("deleter", "Deleter")):
        keys = json.loads(re.findall(rf"--name archiver/{secret} .*?\n    '(.*?)'", page)[0])
        asked = re.findall(rf"{secret}:(\w+)::", json.dumps(container(tasks(Worked(template, PARAMETERS))[process])))
        assert set(keys) == set(asked)
