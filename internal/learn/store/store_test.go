// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/periplus-io/periplus/internal/learn/history"
	"github.com/periplus-io/periplus/internal/learn/store"
	"github.com/periplus-io/periplus/internal/learning"
)

func open(t *testing.T, dir string, keep uint64) *store.Store {
	t.Helper()
	s, err := store.Open(store.Options{
		Dir: dir, Log: slog.New(slog.DiscardHandler), KeepEvents: keep, Published: func(uint64) {}, Lost: func(int) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatWasCommittedComesBack(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 10)
	s.PutObject(&store.Object{UID: "u", Kind: "K", Name: "n", Created: 5, Mark: 7, Run: 2})
	s.PutFacts("u", []byte(`{"phase":"x"}`))
	s.PutConditions("u", []history.Condition{{Seq: 1, Time: 9, Stage: 2, Type: 5, Message: "später"}, {Seq: 0, Time: 8, Data: "{}"}})
	s.PutConditions("u2", []history.Condition{{Seq: 0, Time: 1}})
	s.PutWorker(&store.Worker{UID: "p", Pod: "pod", Status: "dead", Gone: true})
	s.PutEnded("u", 12)
	s.PutAlive(1234, 5)
	must(t, s.Flush())
	s.PutObject(&store.Object{UID: "lost"}) // not committed
	must(t, s.Close())
	s = open(t, dir, 10)
	var got []string
	bad, err := s.Objects(func(o store.Object, facts []byte, list []history.Condition) {
		got = append(got, fmt.Sprintf("%s %d %d %s", o.UID, o.Mark, o.Run, facts))
		for _, c := range list {
			got = append(got, fmt.Sprintf("%d %d %d %d %s %s %t", c.Seq, c.Time, c.Stage, c.Type, c.Message, c.Data, c.ID != 0))
		}
	})
	must(t, err)
	if diff := cmp.Diff([]string{`u 7 2 {"phase":"x"}`, "0 8 0 0  {} true", "1 9 2 5 später  true"}, got); diff != "" || bad != 0 {
		t.Error(diff, bad)
	}
	ms, run, err := s.Alive()
	if ms != 1234 || run != 5 || err != nil {
		t.Error(ms, run, err)
	}
	s.ForgetObject("u", 2)
	text, list, err := s.Read("u")
	if len(text) != 0 || len(list) != 0 || err != nil {
		t.Error(text, list, err)
	}
}

func TestEventsKeepTheirNumbersOverRestarts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 3)
	for i := range 5 {
		s.Publish(learning.Event{Name: fmt.Sprint(i)})
	}
	must(t, s.Flush())
	s.Publish(learning.Event{Name: "lost"})
	must(t, s.Close())
	s = open(t, dir, 3)
	s.Publish(learning.Event{Name: "5"})
	must(t, s.Flush())
	list, gap, err := s.Events(1, 10)
	var got []string
	for _, e := range list {
		got = append(got, fmt.Sprintf("%d is %s", e.ID, e.Name))
	}
	if diff := cmp.Diff([]string{"4 is 3", "5 is 4", "6 is 5"}, got); diff != "" || !gap || err != nil {
		t.Error(diff, gap, err)
	}
	if _, gap, _ := s.Events(3, 10); gap {
		t.Error("nothing is missing after 3")
	}
}

func TestADamagedFileIsPutAside(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"garbage": func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("garbage ", 5000)), 0o600) },
		"cut":     func(p string) error { return os.Truncate(p, 100) },
		"empty pages": func(p string) error {
			f, err := os.OpenFile(p, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, 1<<16), 0)
			return err
		},
	} {
		dir := t.TempDir()
		s := open(t, dir, 3)
		s.PutObject(&store.Object{UID: "u"})
		must(t, s.Flush())
		must(t, s.Close())
		must(t, damage(filepath.Join(dir, "learn.db")))
		s = open(t, dir, 3)
		s.PutObject(&store.Object{UID: "again"})
		if err := s.Flush(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if aside, _ := filepath.Glob(filepath.Join(dir, "*.corrupt-*")); len(aside) != 1 {
			t.Errorf("%s: put aside are %v", name, aside)
		}
		must(t, s.Close())
	}
}

func TestRecordsThatCannotBeReadArePassedOver(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 3)
	s.PutObject(&store.Object{UID: "good"})
	must(t, s.Flush())
	must(t, s.Close())
	db, err := bolt.Open(filepath.Join(dir, "learn.db"), 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		for _, b := range []string{"objects", "conditions", "workers"} {
			for _, k := range []string{"x", "good\x00abcd", "good\x00"} {
				if err := tx.Bucket([]byte(b)).Put([]byte(k), []byte(`{"s":77`)); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	must(t, db.Close())
	s = open(t, dir, 3)
	n := 0
	bad, err := s.Objects(func(store.Object, []byte, []history.Condition) { n++ })
	if n != 1 || bad != 5 || err != nil {
		t.Error(n, bad, err)
	}
	if bad, err := s.Workers(func(store.Worker) { t.Error("a worker") }); bad != 3 || err != nil {
		t.Error(bad, err)
	}
}

func TestAnotherVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 3)
	must(t, s.Close())
	db, err := bolt.Open(filepath.Join(dir, "learn.db"), 0o600, nil)
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("version"), []byte("9")) }))
	must(t, db.Close())
	if _, err := store.Open(store.Options{Dir: dir, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("got %v", err)
	}
}

func TestWritesOfOneMomentAreOneCommit(t *testing.T) {
	s := open(t, t.TempDir(), 1000)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	for range 100 {
		s.Publish(learning.Event{})
	}
	deadline := time.Now().Add(10 * time.Second)
	for s.LastEvent() != 100 {
		if time.Now().After(deadline) {
			t.Fatalf("%d events are durable", s.LastEvent())
		}
		<-time.After(time.Millisecond)
	}
	cancel()
	wg.Wait()
}
