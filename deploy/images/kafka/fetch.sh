#!/usr/bin/env bash
# Fetch Apache Kafka and its dependencies from Maven Central into FOLDER/libs. Idempotent. Usage: fetch.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${1:?the folder to fetch into}
stamp="$target/pom.sha256"
want=$(sha256sum <"$here/pom.xml")
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
  exit 0
fi
for tool in java mvn; do
  command -v "$tool" >/dev/null || { echo "make kafka needs $tool on the PATH (Java 17 and Maven)"; exit 1; }
done
echo "fetching Apache Kafka into .kafka (110 MB, once)"
rm -rf "$target"
mkdir -p "$target"
# Maven Central occasionally answers 'too many requests': try three times.
for try in 1 2 3; do
  if mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$target/libs"; then
    echo "$want" >"$stamp"
    exit 0
  fi
  echo "attempt $try failed"
  sleep $((try * 5))
done
echo "cannot fetch Apache Kafka from Maven Central; try again later"
exit 1
