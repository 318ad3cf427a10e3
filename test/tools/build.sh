#!/usr/bin/env bash
# Copyright The Periplus Authors
# SPDX-License-Identifier: Apache-2.0
#
# Builds the command line tools named by the `tool` lines of test/tools/go.mod that tests drive, once per
# content of that module and Go version, and prints the folder that holds them.
# Usage: build.sh [PACKAGE...]; without arguments it builds promtool.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
packages=("$@")
if [ ${#packages[@]} -eq 0 ]; then
	packages=(github.com/prometheus/prometheus/cmd/promtool)
fi
key=$({
	cat "$here/go.mod" "$here/go.sum" "${BASH_SOURCE[0]}"
	go env GOVERSION GOARCH
} | sha256sum | cut -c1-16)
out=${XDG_CACHE_HOME:-$HOME/.cache}/periplus-test/tools-$key
mkdir -p "$out"
exec 9>"$out/.lock"
flock 9 # two test runs at once: one builds, one waits
for package in "${packages[@]}"; do
	name=$(basename "$package")
	if [ ! -x "$out/$name" ]; then
		(cd "$here" && CGO_ENABLED=0 GOGC=400 GOFLAGS="-mod=readonly -buildvcs=false" go build \
			-ldflags "-s -w" -o "$out/$name.tmp" "$package") >&2
		mv "$out/$name.tmp" "$out/$name"
	fi
done
echo "$out"
