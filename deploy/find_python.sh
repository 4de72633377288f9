#!/bin/sh
# Print the newest Python from 3.11 to 3.14 on the PATH that can create a virtual environment, and say why others are
# skipped. With arguments, choose only among those: `make PYTHON=/path/to/python3.12 install`.
set -eu
check='
import sys, sysconfig
if not (3, 11) <= sys.version_info[:2] <= (3, 14):
    sys.exit("it is %d.%d, but 3.11 to 3.14 is required" % sys.version_info[:2])
if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit("it is not standard CPython, which the locked packages are built for")
try:
    import ensurepip, venv
except ImportError as error:
    sys.exit("it cannot create virtual environments (%s); on Debian, apt-get install python%d.%d-venv" % (error, *sys.version_info[:2]))
'
[ $# -gt 0 ] || set -- python3.14 python3.13 python3.12 python3.11 python3
for python in "$@"; do
  command -v "$python" >/dev/null || continue
  if why=$("$python" -c "$check" 2>&1 </dev/null); then
    command -v "$python"
    exit 0
  fi
  echo "skipping $python: $(echo "${why:-it does not run}" | head -n 1)" >&2
done
echo "no usable Python from 3.11 to 3.14 among: $* (install one, or run make PYTHON=/path/to/python3.13)" >&2
exit 1
