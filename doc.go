// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package periplus holds the house rules: arch_test.go checks what the linters cannot, such as which
// room may import which. The program is cmd/periplus.
package periplus
