// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learning

import (
	"errors"
	"time"
)

// ErrNotFound is returned for an object that is neither present nor remembered.
var ErrNotFound = errors.New("not found")

// JobQuery selects, orders and pages jobs. The zero value is the first page of all present jobs by name.
type JobQuery struct {
	// Text must occur in name, namespace, dataset or message, whatever the case.
	Text string
	// The following are alternatives within a field and all must hold; an empty one does not restrict.
	Namespaces, Kinds, Stages, Conditions, Nodes []string
	// Deleted also gives jobs that are gone.
	Deleted bool
	// Sort is a field of [Job] by its JSON name; a leading minus turns the order round.
	Sort string
	// Offset and Limit choose the page; a Limit of 0 means 100.
	Offset, Limit int
}

// JobPage is one page of jobs and how many there are in all.
type JobPage struct {
	Jobs   []Job `json:"jobs"`
	Total  int   `json:"total"`
	Offset int   `json:"offset"`
	Limit  int   `json:"limit"`
}

// EventType says what a change is about.
type EventType string

// The kinds of changes.
const (
	JobAdded       EventType = "job_added"
	JobTransition  EventType = "job_transition"
	JobDeleted     EventType = "job_deleted"
	WorkerChanged  EventType = "worker_changed"
	WorkerDeleted  EventType = "worker_deleted"
	DatasetChanged EventType = "dataset_changed"
	ModelChanged   EventType = "model_changed"
)

// Event is one change in the learning model. IDs grow without end and survive restarts; an event is
// published after it is durable, so an id that was seen is never given to another event.
type Event struct {
	ID        uint64        `json:"id"`
	Type      EventType     `json:"type"`
	Time      time.Time     `json:"time"`
	Namespace string        `json:"namespace,omitempty"`
	Kind      string        `json:"kind"`
	Name      string        `json:"name"`
	UID       string        `json:"uid,omitempty"`
	Stage     Stage         `json:"stage,omitempty"`
	Condition ConditionType `json:"condition,omitempty"`
	Round     int           `json:"round,omitempty"`
	// Worker and Status are set for changes of workers.
	Worker  string `json:"worker,omitempty"`
	Status  string `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
}

// Metric describes one series name of the learning model.
type Metric struct {
	Name string `json:"name"`
	// Type is gauge or counter.
	Type string `json:"type"`
	Unit string `json:"unit"`
	// Help starts with the name that the metric has in the reference list, where it has one.
	Help string `json:"help"`
	// Labels are the labels that series of this name can carry, in alphabetical order.
	Labels []string `json:"labels"`
}

// Status is the state of what the learning model is made from.
type Status struct {
	Kubernetes Kubernetes `json:"kubernetes"`
	Jobs       int        `json:"jobs"`
	Deleted    int        `json:"deleted_jobs"`
	Datasets   int        `json:"datasets"`
	Models     int        `json:"models"`
	Workers    int        `json:"workers"`
	// BackfillPending is how many objects still wait for their past to be written.
	BackfillPending int `json:"backfill_pending"`
	// LastEvent is the id of the newest change.
	LastEvent uint64 `json:"last_event"`
	// Faults says in words what is wrong with the hub now, such as a full disk.
	Faults []string `json:"faults,omitempty"`
}

// Kubernetes says where objects come from and whether that works.
type Kubernetes struct {
	// State is one short phrase such as "not configured", "connected" or "unreachable".
	State string `json:"state"`
	// Source is the API server's address or the manifest folder, without secrets.
	Source string        `json:"source,omitempty"`
	Error  string        `json:"error,omitempty"`
	Kinds  []WatchedKind `json:"kinds,omitempty"`
}

// WatchedKind is the state of one kind of objects.
type WatchedKind struct {
	Kind    string `json:"kind"`
	State   string `json:"state"`
	Objects int    `json:"objects"`
	Error   string `json:"error,omitempty"`
}
