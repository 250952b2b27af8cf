"""A peer's side of a race: works on request. The protocol is described in `src/contestant.rs`.

python contest.py WORKLOAD PEER FOLDER THREADS
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

import workloads

KINDS = {np.dtype(np.bool_): "u8", np.dtype(np.uint8): "u8", np.dtype(np.int16): "i16", np.dtype(np.uint32): "u32", np.dtype(np.float32): "f32"}


def resident_mib(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(key)) / 1024


def child_mib():
    """The largest of the processes that ended so far; a peer that is a program of its own works in one."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def save(result, folder):
    """Arrays as raw little-endian files, numbers in the answer. Integers of other types become 32-bit labels."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays, numbers = {}, {}
    for name, value in result.items():
        if name.startswith("_"):
            continue  # what must live as long as an array that is a view of it
        if not isinstance(value, np.ndarray):
            numbers[name] = float(value)
            continue
        if value.dtype not in KINDS:
            value = value.astype(np.uint32 if np.issubdtype(value.dtype, np.integer) else np.float32)
        np.ascontiguousarray(value).tofile(folder / f"{name}.raw")
        arrays[name] = KINDS[value.dtype]
    return {"arrays": arrays, "numbers": numbers}


def main():
    workload, peer, folder, threads = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    # Libraries that print must not print into the protocol.
    out, sys.stdout = sys.stdout, sys.stderr
    version, work = workloads.prepare(workload, peer, folder, threads)
    print(json.dumps({"version": f"{peer} {version}"}), file=out, flush=True)
    result = None
    for request in sys.stdin:
        request = request.strip()
        if request.startswith("save "):
            answer = save(result, Path(request[5:]))
        else:
            result = None
            before = resident_mib("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")
            start = time.perf_counter()
            result = work()
            seconds = time.perf_counter() - start
            answer = {"seconds": seconds, "peak_mib": max(resident_mib("VmHWM") - before, 0.0) + child_mib()}
        print(json.dumps(answer), file=out, flush=True)


main()
