"""Two machines of a Ray cluster on loopback, one core each: `python ray_machines.py FOLDER`.

Ray's daemons start as children of this process, and end with it. It says the head's address, and
takes the second machine out of the cluster when a line comes.
"""

import os
import socket
import sys
from pathlib import Path

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_TMPDIR"] = sys.argv[1]
PATIENCE = {
    "raylet_start_wait_time_s": "300",
    "gcs_server_port_wait_time_s": "300",
    "agent_register_timeout_ms": "300000",
}
os.environ |= {f"RAY_{name}": value for name, value in PATIENCE.items()}

import ray
from ray._raylet import (
    DASHBOARD_AGENT_LISTEN_PORT_NAME,
    METRICS_AGENT_PORT_NAME,
    METRICS_EXPORT_PORT_NAME,
    persist_port,
)
from ray.cluster_utils import Cluster

FOLDER = Path(sys.argv[1], "ray")
"""Where Ray keeps all that it writes, below `RAY_TMPDIR`."""
SESSION = "session_tests"
UNUSED = (DASHBOARD_AGENT_LISTEN_PORT_NAME, METRICS_AGENT_PORT_NAME, METRICS_EXPORT_PORT_NAME)


def machine() -> dict[str, object]:
    """Settings of a machine that starts however busy this one is.

    Ray ends a machine whose agents have not said within 15 seconds where they listen. So it is said
    here, before: nowhere, as nobody asks them, or where there is room.
    """
    number = ray.NodeID.from_random().hex()
    for name in UNUSED:
        persist_port(str(FOLDER / SESSION), number, name, -1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    return {
        "num_cpus": 1,
        "object_store_memory": 80 << 20,
        "include_log_monitor": False,
        "runtime_env_agent_port": port,
        "env_vars": {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": number},
    }


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


(FOLDER / SESSION).mkdir(parents=True)
places = {"temp_dir": str(FOLDER), "session_name": SESSION}
head = {"include_dashboard": False, "no_monitor": True, **places, **machine()}
cluster = Cluster(initialize_head=True, head_node_args=head)
second = cluster.add_node(**machine())
say(cluster.address)
if sys.stdin.readline():
    cluster.remove_node(second, allow_graceful=False)
    say("removed")
    sys.stdin.readline()
cluster.shutdown()
