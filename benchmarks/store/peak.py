"""Run the program with the words of the command line; the last line of stderr is the peak memory in MB."""

from __future__ import annotations

import resource
import subprocess
import sys

if __name__ == "__main__":
    code = subprocess.run([sys.executable, "-m", "farfield", *sys.argv[1:]], check=False).returncode
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, file=sys.stderr)
    sys.exit(code)
