#!/usr/bin/env bash
# Fetch a Java server and its dependencies from Maven Central into FOLDER/libs. Idempotent.
# Usage: fetch_jars.sh NAME FOLDER, where NAME/pom.xml beside this file says what.
set -euo pipefail
name=${1:?kafka or zookeeper}
pom="$(cd "$(dirname "$0")" && pwd)/$name/pom.xml"
target=${2:?the folder to fetch into}
stamp="$target/pom.sha256"
want=$(sha256sum <"$pom")
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
  exit 0
fi
for tool in java mvn; do
  command -v "$tool" >/dev/null || { echo "make $name needs $tool on the PATH (Java 17 and Maven)"; exit 1; }
done
echo "fetching $name into $(basename "$target") (Kafka 110 MB, ZooKeeper 13 MB, once)"
rm -rf "$target"
mkdir -p "$target"
# Maven Central occasionally answers 'too many requests': try three times.
for try in 1 2 3; do
  if mvn -q -B -f "$pom" dependency:copy-dependencies -DoutputDirectory="$target/libs"; then
    echo "$want" >"$stamp"
    exit 0
  fi
  echo "attempt $try failed"
  sleep $((try * 5))
done
echo "cannot fetch $name from Maven Central; try again later"
exit 1
