// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix && !linux

package fleet

import "syscall"

// childAttr keeps the terminal's Ctrl-C from the child; the launcher passes it on.
func childAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
