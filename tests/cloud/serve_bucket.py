"""A loopback bucket as a process of its own, for jobs/benchmark.py: `python -m tests.cloud.serve_bucket '{...}'`.

The argument is JSON: bucket, names, object_bytes, latency_s and seed. Prints one line of JSON, the environment variables
that lead Google's clients to it, and ends when its standard input is closed.
"""

import json
import sys

import numpy as np

from tests.cloud.gcs import FakeGcs, gcs_environment


def main(argument: str) -> None:
    """Answer until standard input is closed."""
    wanted = json.loads(argument)
    rng = np.random.default_rng(wanted["seed"])
    with FakeGcs(wanted["bucket"]) as server:
        for name in wanted["names"]:
            server.put(wanted["bucket"], name, rng.bytes(wanted["object_bytes"]))
        server.faults.add(kind="delay", count=-1, delay_s=wanted["latency_s"])
        print(json.dumps(gcs_environment(server)), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
