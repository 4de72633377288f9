#!/usr/bin/env bash
# Fetch Apache Kafka and its dependencies from Maven Central into .kafka/libs. Idempotent.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target="$here/../../.kafka"
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
# Maven Central answers 'too many requests' now and then: three tries.
for try in 1 2 3; do
  if mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$target/libs"; then
    echo "$want" >"$stamp"
    exit 0
  fi
  echo "attempt $try failed"
  sleep $((try * 5))
done
echo "Apache Kafka could not be fetched from Maven Central"
exit 1
