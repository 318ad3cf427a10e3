// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"time"

	"github.com/periplus-io/periplus/internal/learn/facts"
	"github.com/periplus-io/periplus/internal/learn/mapping"
	"github.com/periplus-io/periplus/internal/learn/store"
	"github.com/periplus-io/periplus/internal/resource"
)

// readWorker reads a pod as a worker of a kind of job.
func readWorker(m *mapping.Mapping, o resource.Object, labels map[string]any, at time.Time) store.Worker {
	text := func(key string) string {
		s, _ := labels[key].(string)
		return facts.Clip(s)
	}
	w := store.Worker{
		UID: o.UID(), Pod: o.Name(), Namespace: o.Namespace(), Group: m.Group, Kind: m.Kind,
		Job: text(m.Workers.Name), JobUID: text(m.Workers.UID), Type: text(m.Workers.Type), Node: o.Text("spec", "nodeName"),
	}
	containers, _ := o.Field("spec", "containers").([]any)
	for _, c := range containers {
		entry, _ := c.(map[string]any)
		env, _ := entry["env"].([]any)
		if w.Name == "" {
			w.Name = facts.Clip(facts.Environment(env, m.Workers.NameEnv))
		}
		if w.Knowledge == "" {
			w.Knowledge = facts.Clip(facts.Environment(env, m.Workers.KnowledgeEnv))
		}
	}
	phase := o.Text("status", "phase")
	states := readContainers(o)
	w.Restarts, w.Reason = states.restarts, states.reason
	switch phase {
	case "Running":
		w.Status = statusActive
	case "Pending", "":
		w.Status = statusWaiting
		if w.Reason == "" {
			w.Reason = unscheduled(o)
		}
	default:
		w.Status = statusDead
		if w.Reason == "" {
			w.Reason = facts.Clip(o.Text("status", "reason"))
		}
	}
	if w.Status == statusWaiting {
		return w
	}
	w.Start = millisOf(o.Text("status", "startTime"))
	if w.Start == 0 {
		w.Start = at.UnixMilli()
	}
	if w.Status == statusDead {
		if w.End = states.finished; w.End == 0 {
			w.End = at.UnixMilli()
		}
		w.End = max(w.End, w.Start)
	}
	return w
}

type containerStates struct {
	restarts int
	reason   string
	finished int64 // when the last container ended, in ms
}

func readContainers(o resource.Object) containerStates {
	var out containerStates
	list, _ := o.Field("status", "containerStatuses").([]any)
	for _, c := range list {
		entry, _ := c.(map[string]any)
		status := resource.Object(entry)
		if n, ok := mapping.Number(entry["restartCount"]); ok && n > 0 {
			out.restarts += int(n)
		}
		if r := status.Text("state", "waiting", "reason"); r != "" && out.reason == "" {
			out.reason = facts.Clip(r)
		}
		if r := status.Text("state", "terminated", "reason"); r != "" && r != "Completed" && out.reason == "" {
			out.reason = facts.Clip(r)
		}
		out.finished = max(out.finished, millisOf(status.Text("state", "terminated", "finishedAt")))
	}
	return out
}

// unscheduled gives the scheduler's words for a pod that has no node.
func unscheduled(o resource.Object) string {
	list, _ := o.Field("status", "conditions").([]any)
	for _, c := range list {
		entry, _ := c.(map[string]any)
		s := resource.Object(entry)
		if s.Text("type") == "PodScheduled" && s.Text("status") == "False" {
			return facts.Clip(s.Text("reason") + ": " + s.Text("message"))
		}
	}
	return ""
}

func millisOf(text string) int64 {
	if t := mapping.Time(text); !t.IsZero() {
		return t.UnixMilli()
	}
	return 0
}
