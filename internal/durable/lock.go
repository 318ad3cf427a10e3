// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrLocked is wrapped by the error of [Lock] for a folder that another process has.
var ErrLocked = errors.New("another process uses this folder")

// DirLock is a folder that this process has for itself.
type DirLock struct{ file *os.File }

// Lock takes dir, which must exist, for this process until Release. The kernel gives it back when the process ends
// in whatever way, so the file named lock that stays in dir says nothing by being there; it holds the process id
// for people.
func Lock(dir string) (*DirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			pid, _ := io.ReadAll(io.LimitReader(f, 20))
			err = fmt.Errorf("%w: process %s", ErrLocked, strings.TrimSpace(string(pid)))
		}
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), f.Close())
	}
	// Without the number, as on a full disk, the lock is as good.
	_ = f.Truncate(0)
	_, _ = fmt.Fprintln(f, os.Getpid())
	return &DirLock{f}, nil
}

// Release gives the folder back.
func (l *DirLock) Release() error {
	if err := l.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("unlock folder: %w", err)
	}
	return nil
}
