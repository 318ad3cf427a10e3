// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// openFile opens the file and makes what is missing in it; damage of any kind is ErrCorrupt. A file that is
// complete is not written to, so that it opens on a full disk.
func openFile(path string) (*bolt.DB, error) {
	if info, err := os.Stat(path); err == nil && info.Size() > 0 {
		if err := verify(path); err != nil {
			return nil, err
		}
	}
	// With its list of free pages in the file the engine need not look for them, which it does in a goroutine
	// whose panics would be ours.
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return nil, fault(err)
	}
	if complete(db) == nil {
		return db, nil
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range names() {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		b := tx.Bucket(names()[meta])
		if v := b.Get(versionKey()); v != nil && string(v) != version {
			return fmt.Errorf("it has version %s, this program writes %s", v, version)
		}
		return b.Put(versionKey(), []byte(version))
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func versionKey() []byte { return []byte("version") }

// fault tells damage from what is not the file's.
func fault(err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("another process holds it: %w", err)
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EROFS):
		return err
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// complete tells whether all buckets and the version are there.
func complete(db *bolt.DB) error {
	return db.View(func(tx *bolt.Tx) error {
		for _, name := range names() {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("no bucket %s", name)
			}
		}
		if v := tx.Bucket(names()[meta]).Get(versionKey()); string(v) != version {
			return fmt.Errorf("version %q", v)
		}
		return nil
	})
}

// verify reads the whole file. The engine trusts what it maps into memory: it panics on a page that is none, and a
// page beyond the end of the file is a fault of the processor, at whatever time it comes to it.
func verify(path string) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, r)
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		return fault(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			var last []byte
			c := b.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if last != nil && bytes.Compare(last, k) >= 0 {
					return fmt.Errorf("%w: bucket %s is not in order", ErrCorrupt, name)
				}
				last = k
				if len(v) > 0 {
					_ = v[len(v)-1] // reaches the end of its page
				}
			}
			return nil
		})
	})
}
