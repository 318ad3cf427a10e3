// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "syscall"

// childAttr keeps the terminal's Ctrl-C from the child (the launcher passes it on) and ends the child when
// the thread that started it dies, so that a killed launcher leaves nobody behind.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
