"""How Ray uses cluster.yaml: its autoscaler, and its setup of an AWS account that is simulated in memory."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from moto import mock_aws
from ray.autoscaler._private.aws import utils
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.event_logger import AutoscalerEventLogger
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated import autoscaler_pb2, instance_manager_pb2

from tests.deploy_tests.filling import filled, make_home

asking: Any = autoscaler_pb2
telling: Any = instance_manager_pb2


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_home(tmp_path, monkeypatch)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, str, str]]:
    """EC2 of an account, its security group, which allows ssh from one address, and a machine image."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        ec2, iam = boto3.client("ec2", region_name="us-west-2"), boto3.client("iam", region_name="us-west-2")
        for name in ("gscnn-head", "gscnn-worker"):
            iam.create_instance_profile(InstanceProfileName=name)
        network = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group = ec2.create_security_group(GroupName="gscnn", Description="gscnn", VpcId=network)["GroupId"]
        ec2.authorize_security_group_ingress(
            GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="203.0.113.7/32"
        )
        utils.resource_cache.cache_clear()
        yield ec2, group, ec2.describe_images()["Images"][0]["ImageId"]
    utils.resource_cache.cache_clear()


def test_ray_up_starts_the_machines_of_this_file_and_opens_nothing(
    account: tuple[Any, str, str], tmp_path: Path, home: Path
) -> None:
    ec2, group, image = account
    path = filled("cluster.yaml", tmp_path, FILL_IN_SECURITY_GROUP=group, FILL_IN_AMI=image)
    before = copy.deepcopy(ec2.describe_security_groups()["SecurityGroups"])
    config = prepare_config(yaml.safe_load(path.read_text()))
    config = AWSNodeProvider.fillout_available_node_types_resources(config)
    validate_config(config)
    config = AWSNodeProvider.bootstrap_config(config)
    types = config["available_node_types"]
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, of in types.items():
        provider.create_node(of["node_config"], {"ray-node-type": name}, 1)

    assert ec2.describe_security_groups()["SecurityGroups"] == before
    assert types["head"]["resources"]["CPU"] == 0
    for name in ("gpu_spot", "gpu_on_demand"):
        assert (types[name]["resources"]["CPU"], types[name]["resources"]["GPU"]) == (8, 1)
    machines = [machine for made in ec2.describe_instances()["Reservations"] for machine in made["Instances"]]
    kinds = {}
    for machine in machines:
        assert machine["ImageId"] == image
        assert [found["GroupId"] for found in machine["SecurityGroups"]] == [group]
        kind = next(tag["Value"] for tag in machine["Tags"] if tag["Key"] == "ray-node-type")
        profile = machine["IamInstanceProfile"]["Arn"].split("/")[-1]
        kinds[kind] = machine["InstanceType"], profile, machine.get("InstanceLifecycle")
    assert kinds == {
        "head": ("m7i.xlarge", "gscnn-head", None),
        "gpu_spot": ("g5.2xlarge", "gscnn-worker", "spot"),
        "gpu_on_demand": ("g5.2xlarge", "gscnn-worker", None),
    }
    assert (home / ".ssh/ray-autoscaler_us-west-2.pem").stat().st_mode & 0o777 == 0o600


def test_spot_machines_are_started_first_up_to_their_maximum(tmp_path: Path) -> None:
    config = _config(tmp_path, gpu_spot=4, gpu_on_demand=4)
    assert _launched(config, CloudResourceMonitor(), gpus=3) == {"gpu_spot": 3}
    assert _launched(config, CloudResourceMonitor(), gpus=6) == {"gpu_spot": 4, "gpu_on_demand": 2}


def test_without_spot_capacity_the_user_must_swap_two_numbers_because_ray_does_not(tmp_path: Path) -> None:
    """As cluster.yaml says about spot_workers. If Ray ever falls back by itself, that comment must change."""
    monitor = CloudResourceMonitor()
    refused = {"instance_type": "gpu_spot", "new_instance_status": telling.Instance.ALLOCATION_FAILED}
    monitor.notify([telling.InstanceUpdateEvent(**refused)])
    assert _launched(_config(tmp_path, gpu_spot=4, gpu_on_demand=4), monitor, gpus=3) == {"gpu_spot": 3}
    assert _launched(_config(tmp_path, gpu_spot=0, gpu_on_demand=4), monitor, gpus=3) == {"gpu_on_demand": 3}


def _config(folder: Path, **max_workers: int) -> AutoscalingConfig:
    """Returns the file's config with these numbers, as the autoscaler on the head reads it."""
    config = yaml.safe_load(filled("cluster.yaml", folder).read_text())
    for name, most in max_workers.items():
        config["available_node_types"][name] |= {"resources": {"CPU": 8, "GPU": 1}, "max_workers": most}
    config["max_workers"] = sum(max_workers.values())
    return AutoscalingConfig(config, skip_content_hash=True)


def _launched(config: AutoscalingConfig, monitor: CloudResourceMonitor, gpus: int) -> dict[str, int]:
    """Returns node type -> number of nodes that the autoscaler starts for `gpus` workers with one GPU each."""

    class Silent(AutoscalerEventLogger):
        def __init__(self) -> None: ...

        def log_cluster_scheduling_update(self, *arguments: Any, **named: Any) -> None: ...

    bundle = ResourceRequestUtil.make({"GPU": 1, "CPU": 8})
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=[asking.ResourceRequestByCount(request=bundle, count=gpus)],
        cloud_resource_availabilities=monitor.get_resource_availabilities(),
        recoverable_resource_availabilities=monitor.get_recoverable_resource_availabilities(),
    )
    reply = ResourceDemandScheduler(Silent()).schedule(request)
    return {launch.instance_type: launch.count for launch in reply.to_launch}
