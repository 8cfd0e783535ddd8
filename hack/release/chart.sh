#!/usr/bin/env bash
# chart.sh REPOSITORY DIGEST DIRECTORY: packs the chart into DIRECTORY, with this image as its default, by its digest:
# whoever trusts the chart's signature then runs that image and no other.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r charts/redis-operator "$work"
sed -i -e "s|^  repository: localhost/redis-operator$|  repository: $1|" -e "s|^  digest: \"\"$|  digest: $2|" \
    "$work/redis-operator/values.yaml"
"${HELM:-helm}" package --destination "$3" "$work/redis-operator"
