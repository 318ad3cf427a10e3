// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package resource is the vocabulary for objects of the Kubernetes API: what was observed, of which
// kind, and when. The room that observes them hands [Event] values to the rooms that make samples
// and history of them. It has no behaviour and knows no client.
package resource

import "time"

// Kind names a kind of object the way the API server serves it. It is comparable.
type Kind struct {
	// Group is the API group, empty for the core group.
	Group string
	// Version is the API version, such as v1alpha1.
	Version string
	// Kind is the object kind in upper camel case.
	Kind string
	// Plural is the resource name in URLs.
	Plural string
}

// APIVersion gives the kind's apiVersion field: group/version, or the version alone in the core group.
func (k Kind) APIVersion() string {
	if k.Group == "" {
		return k.Version
	}
	return k.Group + "/" + k.Version
}

// String gives Kind.version.group, for messages.
func (k Kind) String() string {
	s := k.Kind + "." + k.Version
	if k.Group != "" {
		s += "." + k.Group
	}
	return s
}

// Object is one object as decoded from JSON: values are map[string]any, []any, string, bool, int64,
// float64 and nil. Whoever receives one must not change it and may keep it.
type Object map[string]any

// Field walks the maps of o along keys and gives what is there, or nil.
func (o Object) Field(keys ...string) any {
	var v any = map[string]any(o)
	for _, key := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

// Text is Field for a string; anything else gives the empty string.
func (o Object) Text(keys ...string) string {
	s, _ := o.Field(keys...).(string)
	return s
}

// Name is metadata.name.
func (o Object) Name() string { return o.Text("metadata", "name") }

// Namespace is metadata.namespace, empty for cluster-wide objects.
func (o Object) Namespace() string { return o.Text("metadata", "namespace") }

// UID is metadata.uid. Objects from manifest folders that carry none get one that is derived from
// kind, namespace, name and creation time, so it is never empty for an observed object.
func (o Object) UID() string { return o.Text("metadata", "uid") }

// EventType says what happened.
type EventType int

const (
	// Applied means the object exists with this content: seen first, or changed.
	Applied EventType = iota + 1
	// Deleted means the object is gone. The object is its last known form, at least its metadata.
	Deleted
	// Listed means all objects of the kind that exist have been applied once since the source was
	// opened. It comes once per kind and start, after the first full list; it carries no object.
	Listed
	// Gone means the kind itself is no longer served or was given up. Its objects have been
	// reported as Deleted before. It carries no object.
	Gone
)

// Event is one observation. Events of one kind come in order, one at a time; events of different
// kinds may come at the same time from several goroutines.
type Event struct {
	Type   EventType
	Kind   Kind
	Object Object
	// Received is when the source took notice, by the local clock.
	Received time.Time
	// Initial is set on Applied events that come from the first full list of a start: the object
	// may be as old as it likes and this says nothing about when it changed.
	Initial bool
}
