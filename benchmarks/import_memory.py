"""How long, and in how much memory, is a profile export of perf_analyzer read?

Writes exports of many small and of few large requests, reads each in a process of its own, and prints size, time and
the growth of its peak memory beyond what a tiny export takes. The argument is the size in megabytes (2000).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

START_NS = 1_795_449_021_562_124_923
MS = 1_000_000
FLOATS_OF = {"large (1 MB)": 170_000, "event (0.1 MB)": 17_000, "small (0.2 kB)": 3}
BYTES_A_FLOAT, BYTES_A_REQUEST = 6, 170

READ = """
import re, sys, time
from pathlib import Path
from analysis.perf_analyzer import load

def peak_mb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

load.read(Path(sys.argv[1]))
before, begun = peak_mb(), time.perf_counter()
read = load.read(Path(sys.argv[2]))
took = time.perf_counter() - begun
grown = peak_mb() - before
print(f"{read.points['completed'][0]:10,d} requests  {took:6.1f} s  {grown:6.1f} MB beyond {before:.0f} MB")
"""


def write(path: Path, requests: int, floats: int) -> Path:
    """Write an export with this many requests of this many numbers."""
    tensor = "[" + ",".join(["0.125"] * floats) + "]"
    with path.open("w") as file:
        file.write('{"experiments":[{"experiment":{"mode":"concurrency","value":4},"requests":[')
        for number in range(requests):
            sent_ns = START_NS + number * 10 * MS
            file.write("," if number else "")
            file.write(f'{{"timestamp":{sent_ns},"request_inputs":{{"X":{tensor}}},')
            file.write(f'"response_timestamps":[{sent_ns + 39 * MS}],"response_outputs":[{{"Y":[0.0,1.0]}}]}}')
        end_ns = START_NS + (requests + 4) * 10 * MS
        edges = [START_NS + part * (end_ns - START_NS) // 3 for part in range(4)]
        file.write(f'],"window_boundaries":{edges}}}],"version":"","service_kind":"triton","endpoint":""}}')
    return path


def main() -> None:
    """Write, read, print, for each size of request."""
    size_bytes = int(sys.argv[1] if len(sys.argv) > 1 else 2000) * 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        tiny = write(Path(folder) / "tiny.json", 10, 3)
        for name, floats in FLOATS_OF.items():
            requests = size_bytes // (floats * BYTES_A_FLOAT + BYTES_A_REQUEST)
            large = write(Path(folder) / "large.json", requests, floats)
            command = [sys.executable, "-c", READ, str(tiny), str(large)]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            print(f"{name:15} {large.stat().st_size / 1e6:6.0f} MB  {said}")


if __name__ == "__main__":
    main()
