// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"fmt"

	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/watch"
)

// objects shows the watcher to the learning API.
type objects struct{ watcher *watch.Watcher }

// Kinds lists the kinds that are served by a source.
func (o objects) Kinds() []resource.Kind {
	var kinds []resource.Kind
	for _, k := range o.watcher.Status().Kinds {
		if k.State == watch.StateWatching || k.State == watch.StateSyncing {
			kinds = append(kinds, k.Kind)
		}
	}
	return kinds
}

// Get gives one object.
func (o objects) Get(kind resource.Kind, namespace, name string) (resource.Object, bool) {
	return o.watcher.Get(kind, namespace, name)
}

// List gives the objects of a kind in a namespace, or in all.
func (o objects) List(kind resource.Kind, namespace string) []resource.Object {
	var list []resource.Object
	for object := range o.watcher.List(kind) {
		if namespace == "" || object.Namespace() == namespace {
			list = append(list, object)
		}
	}
	return list
}

// kubernetes says how it stands with the sources of objects.
func (o objects) kubernetes() learning.Kubernetes {
	s := o.watcher.Status()
	k := learning.Kubernetes{State: "not configured"}
	for _, source := range s.Sources {
		// With both sources configured the worse of the two is told.
		if source.State == "off" || (k.Error != "" && source.Err == "") {
			continue
		}
		k.State, k.Source, k.Error = source.State, source.Address, source.Err
		if k.Error == "" && len(source.Files) > 0 {
			f := source.Files[0]
			k.Error = fmt.Sprintf("%s:%d: %s", f.Path, f.Line, f.Err)
		}
	}
	for _, kind := range s.Kinds {
		k.Kinds = append(k.Kinds, learning.WatchedKind{
			Kind: kind.Kind.String(), State: string(kind.State), Objects: kind.Objects, Error: kind.LastErr,
		})
	}
	return k
}
