"""A stand-in for neural-tangents' interpreter: answers ``peer_runner`` jobs with widegram's values.

Run as ``PYTHON fake_peer.py -I -c CODE`` (is the peer installed?) and ``... -I RUNNER`` (a job on
stdin). ``FAKE_PEER`` in the environment makes it fail: 'absent', 'crash' or 'babble'.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np

import widegram

MS = {"float64": {1: 3.0, 2: 2.0, 4: 2.5, 8: 4.0}, "float32": {1: 8.0, 2: 7.0, 4: 6.0, 8: 9.0}}


def main() -> None:
    mode = os.environ.get("FAKE_PEER")
    if "-c" in sys.argv:
        sys.exit(1 if mode == "absent" else 0)
    if mode == "crash":
        sys.exit("Traceback\nRuntimeError: out of registers")
    if mode == "babble":
        sys.stdout.write("hello\n")
        return
    job = json.load(sys.stdin)
    b = job["batches"][0]
    with np.load(job["inputs"]) as file:
        x = file["x"].astype(job["dtype"])
    values = widegram.kernel(job["network"], x[:b], x[b : 2 * b], dtype=job["dtype"])
    assert isinstance(values, tuple)
    np.savez(job["values"], nngp=values.nngp * (1 + 1e-3), ntk=values.ntk)
    batches = {
        str(b): {"first_call_s": 5.0, "ms_entry": MS[job["dtype"]][b]} for b in job["batches"]
    }
    batches[str(job["batches"][-1])] = {"skipped": "would take too long"}
    answer = {"import_s": 2.0, "first_call_s": 5.0, "peak_memory": 10**9, "batches": batches}
    sys.stdout.write(json.dumps(answer | {"versions": {}}))


if __name__ == "__main__":
    main()
