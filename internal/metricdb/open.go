// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
)

// corrupt is what a block that cannot be read has at the end of its name from then on.
const corrupt = ".corrupt"

// setAside renames the blocks in dir that cannot be opened. The engine would not open a store that has one, so
// that one bad block would take the others, and all that is to come, along.
func setAside(dir string, log, engineLog *slog.Logger) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		fault := readable(path, engineLog)
		if fault == nil {
			continue
		}
		if err := os.Rename(path, path+corrupt); err != nil {
			return fmt.Errorf("put an unreadable block aside: %w", err)
		}
		log.Error("block is unreadable and was put aside, its samples are missing", "dir", path+corrupt, "err", fault)
	}
	return nil
}

// readable opens a block as the engine does.
func readable(path string, log *slog.Logger) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	b, err := tsdb.OpenBlock(log, path, nil, nil)
	if err != nil {
		return err
	}
	if b.Meta().ULID.String() != filepath.Base(path) {
		err = fmt.Errorf("it says it is %s", b.Meta().ULID)
	}
	return errors.Join(err, b.Close())
}
