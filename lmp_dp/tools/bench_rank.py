"""Start one rank of a benchmark and write down its peak memory: `bench_rank.py COMMAND...`.

A script of its own, with the standard library only, so that it adds next to nothing to the start-up
time (no `import lmp_dp`) and to the peak, which the system counts from its parent's size.
"""

import json
import os
import sys

if __name__ == "__main__":
    command = sys.argv[1:]
    # spawned with all open files: MPI's process manager talks to the rank through one of them
    pid = os.posix_spawn(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    with open(f"rank_{os.getpid()}.json", "w") as file:
        json.dump({"peak_kib": usage.ru_maxrss}, file)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)
