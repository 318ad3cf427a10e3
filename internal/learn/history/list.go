// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package history

import (
	"cmp"
	"slices"
)

// Entry is what is kept in memory of one condition: enough to know it again and to order it.
type Entry struct {
	ID   uint64
	Time int64
	Seq  uint32
}

// List remembers the conditions of one object by content, in the order in which they happened: by time, and among
// equal times in the order of the object's list. Entries that vanish from the object stay. It is not safe
// for concurrent use.
type List struct {
	entries []Entry
	next    uint32
}

// Len gives the number of entries.
func (l *List) Len() int { return len(l.entries) }

// Next gives the Seq that the next new entry gets; all entries so far have smaller ones.
func (l *List) Next() uint32 { return l.next }

// Merge takes the entries of an object in the order of its list. It gives those that are new, with Seq set,
// in the order in which they happened. appended says that they all come after what was known, in
// which case a fold can go on; otherwise it must begin again.
func (l *List) Merge(seen []Condition, limit int, lost Lost) (fresh []Condition, appended bool) {
	if l.same(seen) {
		return nil, true
	}
	known := make(map[uint64]struct{}, len(l.entries))
	for _, e := range l.entries {
		known[e.ID] = struct{}{}
	}
	before := slices.Clone(l.entries)
	for i := range seen {
		c := &seen[i]
		if _, dup := known[c.ID]; dup {
			continue
		}
		if len(l.entries) >= limit {
			lost["conditions_limit"]++
			continue
		}
		known[c.ID] = struct{}{}
		c.Seq = l.next
		l.next++
		l.entries = append(l.entries, Entry{ID: c.ID, Time: c.Happened(), Seq: c.Seq})
		fresh = append(fresh, *c)
	}
	if len(fresh) == 0 {
		return nil, true
	}
	l.order(seen)
	slices.SortStableFunc(fresh, func(a, b Condition) int { return cmp.Compare(a.Happened(), b.Happened()) })
	return fresh, slices.Equal(before, l.entries[:len(before)])
}

// same says whether the object's list holds nothing that is not known; it is the quick way for an unchanged list.
func (l *List) same(seen []Condition) bool {
	if len(seen) > len(l.entries) {
		return false
	}
	for i := range seen {
		if l.entries[i].ID != seen[i].ID {
			return false
		}
	}
	return true
}

// order sorts by time and then puts the entries of equal time that the object still lists into the list's order.
func (l *List) order(seen []Condition) {
	slices.SortStableFunc(l.entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.Seq, b.Seq))
	})
	rank := make(map[uint64]int, len(seen))
	for i, c := range seen {
		if _, twice := rank[c.ID]; !twice {
			rank[c.ID] = i
		}
	}
	for i := 0; i < len(l.entries); {
		j := i + 1
		for j < len(l.entries) && l.entries[j].Time == l.entries[i].Time {
			j++
		}
		if j-i > 1 {
			reorder(l.entries[i:j], rank)
		}
		i = j
	}
}

// reorder sorts the ranked entries of a run among the places that ranked entries hold.
func reorder(run []Entry, rank map[uint64]int) {
	var places []int
	var ranked []Entry
	for i, e := range run {
		if _, ok := rank[e.ID]; ok {
			places, ranked = append(places, i), append(ranked, e)
		}
	}
	slices.SortStableFunc(ranked, func(a, b Entry) int { return cmp.Compare(rank[a.ID], rank[b.ID]) })
	for i, p := range places {
		run[p] = ranked[i]
	}
}

// Load fills an empty list with entries from the store, in the order of their Seq.
func (l *List) Load(stored []Condition) {
	for i := range stored {
		l.entries = append(l.entries, Entry{ID: stored[i].ID, Time: stored[i].Happened(), Seq: stored[i].Seq})
		l.next = max(l.next, stored[i].Seq+1)
	}
	l.order(nil)
}

// Sort puts conditions into the order of the list; those it does not know come last.
func (l *List) Sort(conditions []Condition) {
	place := make(map[uint64]int, len(l.entries))
	for i, e := range l.entries {
		place[e.ID] = i
	}
	at := func(c Condition) int {
		if i, ok := place[c.ID]; ok {
			return i
		}
		return len(place)
	}
	slices.SortStableFunc(conditions, func(a, b Condition) int { return cmp.Compare(at(a), at(b)) })
}
