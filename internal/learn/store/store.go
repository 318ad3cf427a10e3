// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package store keeps the learning history in one file, <dir>/learn.db: what is known of every object, the
// conditions it has shown, its workers, and the changes that were published.
//
// Writes are collected in memory and committed together, at most [Delay] after the first of them; a crash loses those and
// nothing else. What was lost is seen again in the objects, so it costs only events, which
// are published after their commit. While commits fail (a full disk) writes stay in memory up to a bound and reads give what
// was committed. A file that cannot be read is put aside under another name, because all of it can
// be learnt again. docs/formats/learn.md describes the content.
package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/periplus-io/periplus/internal/learning"
)

// Delay bounds how long a write waits for its commit.
const Delay = 100 * time.Millisecond

const (
	fileName  = "learn.db"
	version   = "1"
	maxWrites = 500_000
	retryWait = 2 * time.Second
)

// ErrCorrupt is wrapped by errors about a file that is no readable store.
var ErrCorrupt = errors.New("corrupt learning store")

// bucket names, in the order of their numbers.
const (
	meta = iota
	objects
	facts
	conditions
	workers
	tasks
	events
	buckets
)

func names() [buckets][]byte {
	return [buckets][]byte{[]byte("meta"), []byte("objects"), []byte("facts"), []byte("conditions"), []byte("workers"), []byte("tasks"), []byte("events")}
}

// write is one pending change; a nil value deletes.
type write struct {
	bucket int
	key    []byte
	value  []byte
}

// Options for [Open].
type Options struct {
	Dir string
	Log *slog.Logger
	// KeepEvents is how many of the newest events are kept.
	KeepEvents uint64
	// Published is called after events became durable.
	Published func(newest uint64)
	// Lost is called with the number of writes that were given up.
	Lost func(n int)
}

// Store is the open file. All methods are safe for concurrent use.
type Store struct {
	o    Options
	db   *bolt.DB
	kick chan struct{}

	commit sync.Mutex // held while a batch is written; taken before mu

	mu      sync.Mutex
	writes  []write
	pending []learning.Event
	lastID  uint64
	firstID uint64
	failing bool
}

// Open opens or creates the store.
func Open(o Options) (*Store, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create folder of learning store: %w", err)
	}
	path := filepath.Join(o.Dir, fileName)
	db, err := openFile(path)
	if errors.Is(err, ErrCorrupt) {
		aside := fmt.Sprintf("%s.corrupt-%d", path, time.Now().Unix())
		if rerr := os.Rename(path, aside); rerr != nil {
			return nil, errors.Join(err, rerr)
		}
		o.Log.Error("learning store is unreadable and was put aside; history is learnt again", "file", aside, "err", err)
		db, err = openFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("open learning store %s: %w", path, err)
	}
	s := &Store{o: o, db: db, kick: make(chan struct{}, 1)}
	if err := s.readIDs(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func (s *Store) readIDs() error {
	return s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(names()[events]).Cursor()
		if k, _ := c.First(); k != nil {
			s.firstID = binary.BigEndian.Uint64(k)
		}
		if k, _ := c.Last(); k != nil {
			s.lastID = binary.BigEndian.Uint64(k)
		}
		if v := tx.Bucket(names()[meta]).Get([]byte("last_event")); len(v) == 8 {
			s.lastID = max(s.lastID, binary.BigEndian.Uint64(v))
		}
		return nil
	})
}

// Run commits until ctx ends, and then what is left.
func (s *Store) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			if err := s.Flush(); err != nil {
				s.o.Log.Error("last commit of learning history", "err", err)
			}
			return
		case <-s.kick:
		}
		wait := Delay
		if s.Failing() {
			wait = retryWait
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		_ = s.Flush() // logged there, and tried again
	}
}

// Failing tells whether the last commit failed.
func (s *Store) Failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing
}

// Close closes the file without committing what is pending.
func (s *Store) Close() error {
	s.commit.Lock()
	defer s.commit.Unlock()
	return s.db.Close()
}

// put adds a write to the next batch.
func (s *Store) put(bucket int, key, value []byte) {
	s.mu.Lock()
	s.writes = append(s.writes, write{bucket, key, value})
	over := len(s.writes) - maxWrites
	if over > 0 {
		s.writes = append(s.writes[:0:0], s.writes[over:]...)
	}
	s.mu.Unlock()
	if over > 0 {
		s.o.Lost(over)
	}
	s.wake()
}

func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// putJSON adds a write of v; a value that cannot be encoded is a fault of the program.
func (s *Store) putJSON(bucket int, key []byte, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		s.o.Log.Error("encode learning record", "err", err)
		s.o.Lost(1)
		return
	}
	s.put(bucket, key, text)
}

// Publish gives an event its number with the next commit.
func (s *Store) Publish(e learning.Event) {
	s.mu.Lock()
	s.pending = append(s.pending, e)
	over := len(s.pending) - maxWrites
	if over > 0 {
		s.pending = append(s.pending[:0:0], s.pending[over:]...)
	}
	s.mu.Unlock()
	if over > 0 {
		s.o.Lost(over)
	}
	s.wake()
}

// Flush commits everything that is pending.
func (s *Store) Flush() error {
	s.commit.Lock()
	defer s.commit.Unlock()
	s.mu.Lock()
	batch, news, last, first := s.writes, s.pending, s.lastID, s.firstID
	s.writes, s.pending = nil, nil
	s.mu.Unlock()
	if len(batch) == 0 && len(news) == 0 {
		return nil
	}
	for i := range news {
		last++
		news[i].ID = last
	}
	err := s.db.Update(func(tx *bolt.Tx) error {
		if err := apply(tx, batch); err != nil {
			return err
		}
		var err error
		first, err = appendEvents(tx, news, first, s.o.KeepEvents)
		return err
	})
	s.mu.Lock()
	if err != nil {
		s.writes = append(batch, s.writes...)
		s.pending = append(news, s.pending...)
	} else {
		s.lastID, s.firstID = last, first
	}
	again := s.failing
	s.failing = err != nil
	s.mu.Unlock()
	if err != nil {
		if !again {
			s.o.Log.Error("commit learning history; it stays in memory and is tried again", "err", err)
		}
		s.wake()
		return fmt.Errorf("commit learning history: %w", err)
	}
	if len(news) > 0 {
		s.o.Published(last)
	}
	return nil
}

func apply(tx *bolt.Tx, batch []write) error {
	all := names()
	for _, w := range batch {
		b := tx.Bucket(all[w.bucket])
		var err error
		if w.value == nil {
			err = b.Delete(w.key)
		} else {
			err = b.Put(w.key, w.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// appendEvents writes events and drops the oldest beyond keep.
func appendEvents(tx *bolt.Tx, news []learning.Event, first, keep uint64) (uint64, error) {
	if len(news) == 0 {
		return first, nil
	}
	b := tx.Bucket(names()[events])
	b.FillPercent = 0.95 // keys only grow
	for i := range news {
		text, err := json.Marshal(&news[i])
		if err != nil {
			return first, err
		}
		if err := b.Put(eventKey(news[i].ID), text); err != nil {
			return first, err
		}
	}
	last := news[len(news)-1].ID
	if first == 0 {
		first = news[0].ID
	}
	for ; last-first >= keep; first++ {
		if err := b.Delete(eventKey(first)); err != nil {
			return first, err
		}
	}
	return first, tx.Bucket(names()[meta]).Put([]byte("last_event"), eventKey(last))
}

func eventKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

// LastEvent gives the number of the newest durable event.
func (s *Store) LastEvent() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastID
}

// Events gives up to limit events after an id, oldest first. gap says that events after the id have been dropped.
func (s *Store) Events(after uint64, limit int) (list []learning.Event, gap bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(names()[events]).Cursor()
		if k, _ := c.First(); k != nil && binary.BigEndian.Uint64(k) > after+1 {
			gap = true
		}
		for k, v := c.Seek(eventKey(after + 1)); k != nil && len(list) < limit; k, v = c.Next() {
			var e learning.Event
			if err := json.Unmarshal(v, &e); err != nil {
				continue // one unreadable event does not stop the others
			}
			list = append(list, e)
		}
		return nil
	})
	return list, gap, err
}
