// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"

	bolt "go.etcd.io/bbolt"

	"github.com/periplus-io/periplus/internal/learn/history"
)

// Object is what is kept of a job's object. Times are in ms, 0 where they are not known.
type Object struct {
	UID       string `json:"uid"`
	Group     string `json:"group"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Created   int64  `json:"created"`
	Deleted   int64  `json:"deleted,omitempty"`
	// Floor is the end of an object of the same name before this one.
	Floor int64 `json:"floor,omitempty"`
	// Mark is the time up to which the past has been written as samples; Run is the start that wrote it.
	Mark int64  `json:"mark,omitempty"`
	Run  uint64 `json:"run,omitempty"`
}

// Worker is what is kept of a worker's pod.
type Worker struct {
	UID       string `json:"uid"`
	Pod       string `json:"pod"`
	Namespace string `json:"namespace"`
	Group     string `json:"group"`
	Kind      string `json:"kind"`
	Job       string `json:"job"`
	JobUID    string `json:"job_uid,omitempty"`
	Name      string `json:"name,omitempty"`
	Type      string `json:"type,omitempty"`
	Node      string `json:"node,omitempty"`
	Knowledge string `json:"knowledge,omitempty"`
	// Status is waiting, active or dead.
	Status   string `json:"status"`
	Start    int64  `json:"start,omitempty"`
	End      int64  `json:"end,omitempty"`
	Restarts int    `json:"restarts,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Gone is set when the pod is no longer there.
	Gone bool `json:"gone,omitempty"`
}

// PutObject keeps an object's record.
func (s *Store) PutObject(o *Object) { s.putJSON(objects, []byte(o.UID), o) }

// PutFacts keeps what an object says beside its conditions, as JSON.
func (s *Store) PutFacts(uid string, text []byte) { s.put(facts, []byte(uid), text) }

// ForgetObject drops an object, its facts and its conditions.
func (s *Store) ForgetObject(uid string, entries int) {
	s.put(objects, []byte(uid), nil)
	s.put(facts, []byte(uid), nil)
	for i := range entries {
		s.put(conditions, conditionKey(uid, uint32(i)), nil)
	}
}

// PutConditions keeps conditions of an object under their Seq.
func (s *Store) PutConditions(uid string, list []history.Condition) {
	for i := range list {
		s.putJSON(conditions, conditionKey(uid, list[i].Seq), &list[i])
	}
}

// PutWorker keeps a worker's record.
func (s *Store) PutWorker(w *Worker) { s.putJSON(workers, []byte(w.UID), w) }

// ForgetWorker drops a worker's record.
func (s *Store) ForgetWorker(uid string) { s.put(workers, []byte(uid), nil) }

// PutEnded keeps how many ended tasks of a job are no longer kept one by one; 0 forgets it.
func (s *Store) PutEnded(job string, n int) {
	if n == 0 {
		s.put(tasks, []byte(job), nil)
		return
	}
	s.putJSON(tasks, []byte(job), n)
}

// PutAlive notes that the hub watches at this time, and in which of its starts.
func (s *Store) PutAlive(ms int64, run uint64) {
	s.put(meta, []byte("alive"), binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(ms)), run))
}

// Alive gives the last time and start noted by [Store.PutAlive]; zeros in a new store.
func (s *Store) Alive() (ms int64, run uint64, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		if v := tx.Bucket(names()[meta]).Get([]byte("alive")); len(v) == 16 {
			ms, run = int64(binary.BigEndian.Uint64(v)), binary.BigEndian.Uint64(v[8:])
		}
		return nil
	})
	return ms, run, err
}

// Objects calls f for every object with its facts and its conditions in the order of their Seq. f must not keep the facts.
// Unreadable records are passed over and counted.
func (s *Store) Objects(f func(Object, []byte, []history.Condition)) (bad int, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(names()[objects]).ForEach(func(k, v []byte) error {
			var o Object
			if json.Unmarshal(v, &o) != nil || o.UID != string(k) {
				bad++
				return nil
			}
			list, n := readConditions(tx, o.UID)
			bad += n
			f(o, tx.Bucket(names()[facts]).Get(k), list)
			return nil
		})
	})
	return bad, err
}

// Workers calls f for every worker.
func (s *Store) Workers(f func(Worker)) (bad int, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(names()[workers]).ForEach(func(_, v []byte) error {
			var w Worker
			if json.Unmarshal(v, &w) != nil || w.UID == "" {
				bad++
				return nil
			}
			f(w)
			return nil
		})
	})
	return bad, err
}

// Ended calls f for every job that [Store.PutEnded] noted.
func (s *Store) Ended(f func(job string, n int)) error {
	return s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(names()[tasks]).ForEach(func(k, v []byte) error {
			var n int
			if json.Unmarshal(v, &n) == nil {
				f(string(k), n)
			}
			return nil
		})
	})
}

// Read gives an object's facts and conditions, what is pending included where it can be committed.
func (s *Store) Read(uid string) (text []byte, list []history.Condition, err error) {
	_ = s.Flush() // logged there; what is committed is still worth reading
	err = s.db.View(func(tx *bolt.Tx) error {
		text = bytes.Clone(tx.Bucket(names()[facts]).Get([]byte(uid)))
		list, _ = readConditions(tx, uid)
		return nil
	})
	return text, list, err
}

func readConditions(tx *bolt.Tx, uid string) (list []history.Condition, bad int) {
	prefix := append([]byte(uid), 0)
	c := tx.Bucket(names()[conditions]).Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		var e history.Condition
		if len(k) != len(prefix)+4 || json.Unmarshal(v, &e) != nil || !e.Valid() {
			bad++
			continue
		}
		e.Restore(binary.BigEndian.Uint32(k[len(prefix):]))
		list = append(list, e)
	}
	return list, bad
}

func conditionKey(uid string, seq uint32) []byte {
	return binary.BigEndian.AppendUint32(append([]byte(uid), 0), seq)
}
