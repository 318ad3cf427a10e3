// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/periplus-io/periplus/internal/learn/history"
	"github.com/periplus-io/periplus/internal/learn/store"
)

// TestNoPageOfTheFileStopsAStart damages one page after the other.
func TestNoPageOfTheFileStopsAStart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 3)
	for i := range 500 {
		uid := fmt.Sprintf("u%d", i)
		s.PutObject(&store.Object{UID: uid, Kind: "K", Name: uid})
		s.PutConditions(uid, []history.Condition{{Seq: 0, Time: 1, Message: "m"}, {Seq: 1, Time: 2}})
		if i%100 == 0 {
			must(t, s.Flush())
		}
	}
	must(t, s.Flush())
	must(t, s.Close())
	file, err := os.ReadFile(filepath.Join(dir, "learn.db"))
	must(t, err)
	page := os.Getpagesize()
	random := rand.NewChaCha8([32]byte{1})
	for at := 0; at < len(file); at += page {
		for _, garbage := range []string{"random", "zero", "cut"} {
			damaged := append([]byte(nil), file...)
			switch garbage {
			case "random":
				_, _ = random.Read(damaged[at : at+page])
			case "zero":
				clear(damaged[at : at+page])
			case "cut":
				damaged = damaged[:at]
			}
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "learn.db"), damaged, 0o600))
			s := open(t, dir, 3)
			if _, err := s.Objects(func(store.Object, []byte, []history.Condition) {}); err != nil {
				t.Errorf("page %d, %s: %v", at/page, garbage, err)
			}
			s.PutObject(&store.Object{UID: "again"})
			if err := s.Flush(); err != nil {
				t.Errorf("page %d, %s: %v", at/page, garbage, err)
			}
			must(t, s.Close())
		}
	}
}

func TestACompleteFileOpensWithoutAWrite(t *testing.T) {
	dir := t.TempDir()
	must(t, open(t, dir, 3).Close())
	path := filepath.Join(dir, "learn.db")
	before, err := os.ReadFile(path)
	must(t, err)
	must(t, open(t, dir, 3).Close())
	after, err := os.ReadFile(path)
	must(t, err)
	if string(before) != string(after) {
		t.Error("opening has changed the file, so it fails on a full disk")
	}
}
