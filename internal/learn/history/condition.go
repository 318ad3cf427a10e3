// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package history turns a job's list of conditions into its past: which entries are new, in which order they
// happened, and what each step changed. Everything in it is a pure function of the entries seen, so
// a hub that watched live, one that started late and one that was restarted in between come to the
// same answer.
//
// [Decode] reads the entries of an object, [List] remembers them by content, and a [Fold] walks them in order and
// reports every changed value to a [Record]. Values are named by series and labels, without those that name the job.
package history

import (
	"hash/fnv"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learning"
)

// Ahead is how far an entry's time may be ahead of the hub's clock.
const Ahead = 10 * time.Second

// Bounds on the text of one condition that is remembered.
const (
	maxText = 4 << 10
	maxData = 64 << 10
)

// Condition is one decoded entry of a list.
type Condition struct {
	// ID identifies the entry by its content.
	ID uint64 `json:"-"`
	// Seq orders entries of the same time: the order in which they were first seen.
	Seq uint32 `json:"-"`
	// Time is the entry's own time in ms; of an entry without one, when it was first seen.
	Time    int64  `json:"t"`
	Stage   uint8  `json:"s"`
	Type    uint8  `json:"c"`
	Status  uint8  `json:"v"`
	Reason  string `json:"r,omitempty"`
	Message string `json:"m,omitempty"`
	Data    string `json:"d,omitempty"`
	// Skewed is when the hub saw an entry whose own time was still to come by more than [Ahead]: it happened then.
	Skewed int64 `json:"k,omitempty"`
	// Untimed is set when Time was not in the entry and is no part of its identity.
	Untimed bool `json:"u,omitempty"`
}

// Lost counts what could not be used, by reason.
type Lost map[string]int

// Decode reads the list of conditions of an object. Entries that are none are counted in lost. At most limit of
// the newest are read.
func Decode(object map[string]any, m *mapping.Mapping, received time.Time, limit int, lost Lost) []Condition {
	list := m.Conditions.Path.List(object)
	if over := len(list) - limit; over > 0 {
		lost["conditions_limit"] += over
		list = list[over:]
	}
	out := make([]Condition, 0, len(list))
	for _, e := range list {
		entry, _ := e.(map[string]any)
		c, ok := decodeEntry(entry, &m.Conditions, received)
		if !ok {
			lost["bad_condition"]++
			continue
		}
		out = append(out, c)
	}
	return out
}

func decodeEntry(e map[string]any, m *mapping.Conditions, received time.Time) (Condition, bool) {
	typ, _ := e[m.Type].(string)
	if known, ok := m.Types[typ]; ok {
		typ = string(known)
	}
	stage := string(m.In)
	if m.Stage != "" {
		stage, _ = e[m.Stage].(string)
	}
	c := Condition{Stage: stageIndex(stage), Type: typeIndex(typ)}
	if c.Stage == none || c.Type == none {
		return c, false
	}
	status, _ := e["status"].(string)
	c.Status = statusIndex(status)
	c.Reason = clip(stringOf(e["reason"]), maxText)
	c.Message = clip(stringOf(e["message"]), maxText)
	if m.Data != "" {
		if c.Data, _ = e[m.Data].(string); len(c.Data) > maxData {
			c.Data = ""
		}
	}
	for _, field := range m.Times {
		if t := mapping.Time(e[field]); !t.IsZero() {
			c.Time = t.UnixMilli()
			break
		}
	}
	if c.Time == 0 {
		c.Time, c.Untimed = received.UnixMilli(), true
	}
	if c.Time > received.Add(Ahead).UnixMilli() {
		c.Skewed = received.UnixMilli()
	}
	c.ID = c.identity()
	return c, true
}

// Happened is the time in ms at which the entry takes its place among the others.
func (c *Condition) Happened() int64 {
	if c.Skewed != 0 {
		return c.Skewed
	}
	return c.Time
}

// identity hashes the content of the entry.
func (c *Condition) identity() uint64 {
	h := fnv.New64a()
	var head [4]byte
	head[0], head[1], head[2] = c.Stage, c.Type, c.Status
	_, _ = h.Write(head[:])
	if !c.Untimed {
		_, _ = h.Write(strconv.AppendInt(nil, c.Time, 10))
	}
	for _, s := range []string{c.Reason, c.Message, c.Data} {
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(s))
	}
	return h.Sum64()
}

// Restore gives a condition read back from the store its identity and order.
func (c *Condition) Restore(seq uint32) {
	c.Seq = seq
	c.ID = c.identity()
}

// Valid says whether stage, type and status of an entry read back are such.
func (c *Condition) Valid() bool { return c.Stage < stages && c.Type < types && c.Status < 3 }

// Public gives the entry in the shared vocabulary.
func (c *Condition) Public() learning.Condition {
	return learning.Condition{
		Time: time.UnixMilli(c.Time).UTC(), Stage: StageName(c.Stage), Type: TypeName(c.Type), Status: StatusName(c.Status),
		Reason: c.Reason, Message: c.Message, Data: c.Data,
	}
}

const none = 0xff

func stageIndex(s string) uint8 { return indexOf(learning.Stages(), learning.Stage(s)) }

func typeIndex(s string) uint8 {
	return indexOf(learning.ConditionTypes(), learning.ConditionType(s))
}

func indexOf[T comparable](all []T, v T) uint8 {
	for i, k := range all {
		if k == v {
			return uint8(i)
		}
	}
	return none
}

// StageName gives a stage by its number.
func StageName(i uint8) learning.Stage { return learning.Stages()[i] }

// TypeName gives a condition by its number.
func TypeName(i uint8) learning.ConditionType { return learning.ConditionTypes()[i] }

// The numbers of the conditions that the rules speak of.
const (
	waiting   = 0
	ready     = 1
	starting  = 2
	completed = 4
	failed    = 5
	types     = 6
	stages    = 3
	deploy    = 2
)

func statuses() []string { return []string{"True", "False", "Unknown"} }

func statusIndex(s string) uint8 {
	if i := indexOf(statuses(), s); i != none {
		return i
	}
	return 2
}

// StatusName gives a status by its number.
func StatusName(i uint8) string { return statuses()[i] }

func stringOf(v any) string {
	s, _ := v.(string)
	return s
}

// clip makes s valid UTF-8 of at most n bytes.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
		for len(s) > 0 {
			if r, size := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || size > 1 {
				break
			}
			s = s[:len(s)-1]
		}
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
