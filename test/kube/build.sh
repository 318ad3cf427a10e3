#!/usr/bin/env bash
# Copyright The Periplus Authors
# SPDX-License-Identifier: Apache-2.0
#
# Builds etcd, kube-apiserver and kwok from the module in test/k8sbin, once per content of that module
# and Go version, and prints the folder that holds them (usable as KUBEBUILDER_ASSETS).
# No -trimpath: the objects of client-go and others are then shared with the project's own builds.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
module=$here/../k8sbin
kube=$(awk '$1 == "k8s.io/kubernetes" && $2 != "=>" {print $2; exit}' "$module/go.mod")
packages=(k8s.io/kubernetes/cmd/kube-apiserver go.etcd.io/etcd/server/v3 sigs.k8s.io/kwok/cmd/kwok)
key=$({
	cat "$module/go.mod" "$module/go.sum" "${BASH_SOURCE[0]}"
	go env GOVERSION GOARCH
} | sha256sum | cut -c1-16)
out=${XDG_CACHE_HOME:-$HOME/.cache}/periplus-test/kube-$kube-$key
if [ ! -e "$out/.done" ]; then
	mkdir -p "$out"
	exec 9>"$out/.lock"
	flock 9 # two test runs at once: one builds, one waits
	if [ ! -e "$out/.done" ]; then
		version=k8s.io/component-base/version
		minor=${kube#v1.}
		(cd "$module" && CGO_ENABLED=0 GOGC=400 GOFLAGS="-mod=readonly -buildvcs=false" go build \
			-ldflags "-s -w -X $version.gitVersion=$kube -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*} -X $version.gitTreeState=clean" \
			-o "$out/" "${packages[@]}") >&2
		mv "$out/server" "$out/etcd" # the main package of go.etcd.io/etcd/server/v3
		touch "$out/.done"
	fi
fi
echo "$out"
