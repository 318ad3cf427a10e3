// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/periplus-io/periplus/internal/resource"
)

// served is a kind that the API server has.
type served struct {
	kind       resource.Kind
	namespaced bool
}

// resolution is what discovery says about the wanted kinds.
type resolution struct {
	served []served
	// failed are groups that could not be asked: nothing follows about their kinds.
	failed map[string]error
}

// resolver asks the API server which kinds it has. Only the wanted groups are asked for, a few small
// requests, and each answer is clear: there, not there, or not known.
type resolver struct {
	client *client
	lists  map[string][]metav1.APIResource // by group and version, of one resolution
}

// resolve finds the kinds of all wants.
func (r resolver) resolve(ctx context.Context, wants []Want) resolution {
	r.lists = map[string][]metav1.APIResource{}
	res := resolution{failed: map[string]error{}}
	groups := map[string][]Want{}
	for _, w := range wants {
		groups[w.Group] = append(groups[w.Group], w)
	}
	for group, wants := range groups {
		found, err := r.group(ctx, group, wants)
		if err != nil {
			res.failed[group] = err
			continue
		}
		for _, s := range found {
			if !slices.Contains(res.served, s) {
				res.served = append(res.served, s)
			}
		}
	}
	slices.SortFunc(res.served, func(a, b served) int { return strings.Compare(a.kind.String(), b.kind.String()) })
	return res
}

func (r resolver) group(ctx context.Context, group string, wants []Want) ([]served, error) {
	versions := []string{"v1"}
	if group != "" {
		var g metav1.APIGroup
		err := r.client.getJSON(ctx, "/apis/"+group, &g)
		if statusCode(err) == http.StatusNotFound {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("discover group %s: %w", group, err)
		}
		versions = []string{g.PreferredVersion.Version}
		for _, v := range g.Versions {
			if v.Version != g.PreferredVersion.Version {
				versions = append(versions, v.Version)
			}
		}
	}
	var found []served
	for _, w := range wants {
		of, err := r.want(ctx, w, versions)
		if err != nil {
			return nil, err
		}
		found = append(found, of...)
	}
	return found, nil
}

// want finds the kinds of one want: of each kind the first version that has it.
func (r resolver) want(ctx context.Context, w Want, versions []string) ([]served, error) {
	var found []served
	seen := map[string]bool{}
	for _, version := range versions {
		if w.Version != "*" && w.Version != version {
			continue
		}
		list, err := r.list(ctx, w.Group, version)
		if err != nil {
			return nil, err
		}
		for _, a := range list {
			if !w.matches(w.Group, version, a.Kind) || seen[a.Kind] || !watchable(a) {
				continue
			}
			seen[a.Kind] = true
			kind := resource.Kind{Group: w.Group, Version: version, Kind: a.Kind, Plural: a.Name}
			found = append(found, served{kind, a.Namespaced})
		}
	}
	return found, nil
}

func (r resolver) list(ctx context.Context, group, version string) ([]metav1.APIResource, error) {
	path := groupPath(group, version)
	if list, ok := r.lists[path]; ok {
		return list, nil
	}
	var list metav1.APIResourceList
	err := r.client.getJSON(ctx, path, &list)
	if err != nil && statusCode(err) != http.StatusNotFound {
		return nil, fmt.Errorf("discover %s: %w", path, err)
	}
	r.lists[path] = list.APIResources
	return list.APIResources, nil
}

// watchable excludes subresources and what cannot be listed and watched.
func watchable(a metav1.APIResource) bool {
	return !strings.Contains(a.Name, "/") && slices.Contains(a.Verbs, "list") && slices.Contains(a.Verbs, "watch")
}
