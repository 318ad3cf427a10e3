// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learnapi

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
)

// maxPage bounds how many rows one answer holds.
const maxPage = 10_000

func (a *API) jobs(r *http.Request) (any, error) {
	v := r.URL.Query()
	if err := only(v, "q", "namespace", "kind", "stage", "condition", "node", "deleted", "sort", "offset", "limit"); err != nil {
		return nil, err
	}
	q := learning.JobQuery{
		Text: v.Get("q"), Namespaces: list(v, "namespace"), Kinds: list(v, "kind"), Stages: list(v, "stage"),
		Conditions: list(v, "condition"), Nodes: list(v, "node"), Sort: v.Get("sort"),
	}
	var err error
	if q.Deleted, err = boolean(v, "deleted"); err != nil {
		return nil, err
	}
	if q.Offset, err = count(v, "offset", 0, 1<<30); err != nil {
		return nil, err
	}
	if q.Limit, err = count(v, "limit", 100, maxPage); err != nil {
		return nil, err
	}
	for _, s := range q.Stages {
		if !slices.Contains(learning.Stages(), learning.Stage(s)) {
			return nil, badRequest("stage %q is none of %v", s, learning.Stages())
		}
	}
	for _, c := range q.Conditions {
		if !slices.Contains(learning.ConditionTypes(), learning.ConditionType(c)) {
			return nil, badRequest("condition %q is none of %v", c, learning.ConditionTypes())
		}
	}
	page, err := a.o.Model.Jobs(q)
	if err != nil {
		return nil, badRequest("%v", err)
	}
	return page, nil
}

func (a *API) job(r *http.Request) (any, error) {
	v := r.URL.Query()
	if err := only(v, "uid"); err != nil {
		return nil, err
	}
	kind := r.PathValue("kind")
	if kind == "-" {
		kind = "" // whatever kind it is
	}
	return a.o.Model.Job(r.PathValue("namespace"), kind, r.PathValue("name"), v.Get("uid"))
}

func (a *API) datasets(r *http.Request) (any, error) {
	all := a.o.Model.Datasets()
	return named(r, all, func(d *learning.Dataset) string { return d.Namespace })
}

func (a *API) models(r *http.Request) (any, error) {
	all := a.o.Model.Models()
	return named(r, all, func(m *learning.Model) string { return m.Namespace })
}

// named keeps what is in the namespaces that a request asks for.
func named[T any](r *http.Request, all []T, namespace func(*T) string) (any, error) {
	v := r.URL.Query()
	if err := only(v, "namespace"); err != nil {
		return nil, err
	}
	if want := list(v, "namespace"); len(want) > 0 {
		all = slices.DeleteFunc(all, func(e T) bool { return !slices.Contains(want, namespace(&e)) })
	}
	if all == nil {
		all = []T{}
	}
	return all, nil
}

// kindView is a kind of objects that can be asked for.
type kindView struct {
	Kind    string `json:"kind"`
	Group   string `json:"group,omitempty"`
	Version string `json:"version"`
	Plural  string `json:"plural"`
}

func (a *API) kinds(*http.Request) (any, error) {
	out := []kindView{}
	if a.o.Resources != nil {
		for _, k := range a.o.Resources.Kinds() {
			out = append(out, kindView{k.Kind, k.Group, k.Version, k.Plural})
		}
	}
	slices.SortFunc(out, func(x, y kindView) int {
		return cmp.Or(strings.Compare(x.Group, y.Group), strings.Compare(x.Kind, y.Kind))
	})
	return out, nil
}

// objectRef names an object in a list.
type objectRef struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Created   string `json:"created,omitempty"`
}

func (a *API) resources(r *http.Request) (any, error) {
	v := r.URL.Query()
	if err := only(v, "namespace"); err != nil {
		return nil, err
	}
	k, err := a.findKind(r.PathValue("kind"))
	if err != nil {
		return nil, err
	}
	out := []objectRef{}
	for _, o := range a.o.Resources.List(k, v.Get("namespace")) {
		out = append(out, objectRef{o.Namespace(), o.Name(), o.UID(), o.Text("metadata", "creationTimestamp")})
	}
	slices.SortFunc(out, func(x, y objectRef) int {
		return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Name, y.Name))
	})
	return out, nil
}

func (a *API) resource(r *http.Request) (any, error) {
	k, err := a.findKind(r.PathValue("kind"))
	if err != nil {
		return nil, err
	}
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	if namespace == "-" {
		namespace = "" // cluster-wide
	}
	o, ok := a.o.Resources.Get(k, namespace, name)
	if !ok {
		return nil, notFound("%s %s/%s is not there", k.Kind, namespace, name)
	}
	return o, nil
}

// findKind finds a kind by its name or plural, with or without its group as in datasets.sedna.io.
func (a *API) findKind(text string) (resource.Kind, error) {
	if a.o.Resources != nil {
		name, group, full := strings.Cut(text, ".")
		for _, k := range a.o.Resources.Kinds() {
			if (strings.EqualFold(name, k.Kind) || strings.EqualFold(name, k.Plural)) && (!full || group == k.Group) {
				return k, nil
			}
		}
	}
	return resource.Kind{}, notFound("kind %q is not observed", text)
}

func (a *API) status(*http.Request) (any, error) {
	s := a.o.Model.Status()
	s.Kubernetes = a.o.Kubernetes()
	s.Faults = append(s.Faults, a.o.Faults()...)
	return s, nil
}

// only refuses parameters that a route does not know, so that a misspelt filter is no silent success.
func only(v url.Values, known ...string) error {
	for k := range v {
		if !slices.Contains(known, k) {
			return badRequest("unknown parameter %q; known are %s", k, strings.Join(known, ", "))
		}
	}
	return nil
}

// list reads a parameter that may be repeated and may hold commas.
func list(v url.Values, key string) []string {
	var out []string
	for _, text := range v[key] {
		for s := range strings.SplitSeq(text, ",") {
			if s = strings.TrimSpace(s); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

func boolean(v url.Values, key string) (bool, error) {
	text := v.Get(key)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, badRequest("%s=%q is neither true nor false", key, text)
	}
	return b, nil
}

func count(v url.Values, key string, otherwise, limit int) (int, error) {
	text := v.Get(key)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > limit {
		return 0, badRequest("%s=%q is no number from 0 to %d", key, text, limit)
	}
	return n, nil
}
