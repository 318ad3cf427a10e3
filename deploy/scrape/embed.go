// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package scrape holds the scrape jobs that every install gets, as files to read, copy and change:
// kubernetes (with kubelet or kubelet-proxy), ipfs and peers. They are plain Prometheus scrape configs,
// written for a pod inside of a cluster; internal/scrape fits them to a kubeconfig.
package scrape

import "embed"

// Files are the YAML files of this folder.
//
//go:embed *.yaml
var Files embed.FS
