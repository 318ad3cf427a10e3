// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/watch"
)

// events collects what a watcher reports, as "applied NAME VALUE", "deleted NAME", "listed KIND", "gone KIND".
type events struct {
	mu   sync.Mutex
	list []string
}

func (e *events) handle(_ context.Context, ev resource.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var text string
	switch ev.Type {
	case resource.Applied:
		text = fmt.Sprintf("applied %s %v", ev.Object.Name(), ev.Object.Field("spec", "value"))
	case resource.Deleted:
		text = "deleted " + ev.Object.Name()
	case resource.Listed:
		text = "listed " + ev.Kind.Plural
	case resource.Gone:
		text = "gone " + ev.Kind.Plural
	}
	e.list = append(e.list, text)
}

// next waits for exactly these events, in any order, after those asked for before.
func (e *events) next(t *testing.T, want ...string) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		e.mu.Lock()
		got := slices.Clone(e.list)
		if len(got) >= len(want) {
			e.list = nil
		}
		e.mu.Unlock()
		if len(got) >= len(want) {
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("got events %q, want %q", got, want)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got events %q, want %q", got, want)
		}
		<-time.After(5 * time.Millisecond)
	}
}

type room struct {
	*watch.Watcher
	*events
	dir string
	reg *prometheus.Registry
}

// open starts a watcher on a folder; write puts files there first.
func open(t *testing.T, wants []watch.Want, files ...string) *room {
	t.Helper()
	r := &room{events: &events{}, dir: t.TempDir(), reg: prometheus.NewRegistry()}
	for i := 0; i < len(files); i += 2 {
		r.write(t, files[i], files[i+1])
	}
	var err error
	r.Watcher, err = watch.New(watch.Options{Handler: r.handle, Registry: r.reg, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	must(t, err)
	must(t, r.Apply(r.config(), wants))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

func (r *room) config() watch.Config {
	c := watch.DefaultConfig()
	c.Manifests = []string{r.dir}
	return c
}

// write replaces a file by rename, so that no half of it is ever seen.
func (r *room) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(r.dir, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path+".new", []byte(text), 0o644))
	must(t, os.Rename(path+".new", path))
}

func (r *room) remove(t *testing.T, name string) {
	t.Helper()
	must(t, os.RemoveAll(filepath.Join(r.dir, name)))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func model(name string, value any, version ...string) string {
	v := strings.Join(version, "")
	return fmt.Sprintf("apiVersion: sedna.io/v1alpha1\nkind: Model\nmetadata: {name: %s, namespace: ns, resourceVersion: %q}\nspec: {value: %v}\n", name, v, value)
}

func models() []watch.Want {
	return []watch.Want{{Group: "sedna.io", Version: "v1alpha1", Kind: "Model"}}
}

func TestFolderIsFollowed(t *testing.T) {
	r := open(t, models(), "a.yaml", model("a", 1), "sub/b.yml", model("b", 1), "notes.txt", "no manifest", "c.json", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"unwanted"}}`)
	r.next(t, "applied a 1", "applied b 1", "listed models")
	r.write(t, "a.yaml", model("a", 2)+"---\n"+model("c", 1))
	r.next(t, "applied a 2", "applied c 1")
	r.write(t, "new/folder/d.yaml", model("d", 1))
	r.next(t, "applied d 1")
	r.write(t, "a.yaml", model("c", 1))
	r.next(t, "deleted a")
	r.remove(t, "sub")
	r.next(t, "deleted b")
	must(t, os.Rename(filepath.Join(r.dir, "a.yaml"), filepath.Join(r.dir, "z.yaml")))
	r.write(t, "last.yaml", model("last", 1))
	r.next(t, "applied last 1") // nothing for c: the same object in another file is no news
	kind := resource.Kind{Group: "sedna.io", Version: "v1alpha1", Kind: "Model", Plural: "models"}
	if o, ok := r.Get(kind, "ns", "c"); !ok || o.UID() == "" {
		t.Errorf("Get gives %v, %v", o, ok)
	}
	n := 0
	for range r.List(kind) {
		n++
	}
	if n != 3 {
		t.Errorf("List gives %d objects, want 3", n)
	}
}

func TestInvalidFileKeepsItsLastGoodContent(t *testing.T) {
	r := open(t, models(), "a.yaml", model("a", 1), "bad.yaml", "kind: [\n")
	r.next(t, "applied a 1", "listed models")
	r.write(t, "a.yaml", "apiVersion: sedna.io/v1alpha1\nkind: Model\nmetadata: {name: a\n")
	r.write(t, "b.yaml", model("b", 1))
	r.next(t, "applied b 1")
	files := r.Status().Sources[1].Files
	if len(files) != 2 || filepath.Base(files[0].Path) != "a.yaml" || files[0].Line == 0 {
		t.Errorf("got invalid files %v", files)
	}
	r.write(t, "a.yaml", "")
	r.write(t, "b.yaml", model("b", 2))
	r.next(t, "applied b 2")
	r.write(t, "a.yaml", model("a", 2))
	r.remove(t, "bad.yaml")
	r.next(t, "applied a 2")
	if files := r.Status().Sources[1].Files; len(files) != 0 {
		t.Errorf("got invalid files %v", files)
	}
}

func TestOfAnObjectInTwoFilesTheNewestIsTaken(t *testing.T) {
	r := open(t, models(), "a.yaml", model("x", "old", "9"), "b.yaml", model("x", "new", "10"), "c.yaml", model("x", "oldest", "1"))
	r.next(t, "applied x old", "applied x new", "listed models")
	r.write(t, "a.yaml", model("x", "newest", "11"))
	r.next(t, "applied x newest")
	r.remove(t, "a.yaml")
	r.next(t, "applied x new")
	r.remove(t, "b.yaml")
	r.next(t, "applied x oldest")
	r.remove(t, "c.yaml")
	r.next(t, "deleted x")
}

func TestMountedConfigMapIsFollowedThroughItsSwappedLink(t *testing.T) {
	r := open(t, models(), "..v1/m.yaml", model("m", 1), "..v2/m.yaml", model("m", 2))
	must(t, os.Symlink("..v1", filepath.Join(r.dir, "..data")))
	must(t, os.Symlink("..data/m.yaml", filepath.Join(r.dir, "m.yaml")))
	r.next(t, "listed models", "applied m 1")
	must(t, os.Symlink("..v2", filepath.Join(r.dir, "..tmp")))
	must(t, os.Rename(filepath.Join(r.dir, "..tmp"), filepath.Join(r.dir, "..data")))
	r.next(t, "applied m 2")
}

func TestPluralComesFromADefinitionInTheFolder(t *testing.T) {
	r := open(t, []watch.Want{{Group: "example.com", Version: "*", Kind: "Policy"}},
		"a.yaml", "apiVersion: example.com/v1\nkind: Policy\nmetadata: {name: p}\n",
		"crd.yaml", "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: policies.example.com}\nspec: {group: example.com, names: {kind: Policy, plural: policies}}\n")
	r.next(t, "applied p <nil>", "listed policies")
}

func TestWantsChangeAtReload(t *testing.T) {
	r := open(t, models(), "a.yaml", model("a", 1)+"---\napiVersion: v1\nkind: Node\nmetadata: {name: n}\n")
	r.next(t, "applied a 1", "listed models")
	must(t, r.Apply(r.config(), append(models(), watch.Want{Version: "v1", Kind: "Node"})))
	r.next(t, "applied n <nil>", "listed nodes")
	must(t, r.Apply(r.config(), []watch.Want{{Version: "v1", Kind: "Node"}}))
	r.next(t, "deleted a", "gone models")
	must(t, r.Apply(watch.DefaultConfig(), nil))
	r.next(t, "deleted n", "gone nodes")
	if err := r.Apply(watch.Config{}, nil); err == nil {
		t.Error("Apply accepts an invalid configuration")
	}
}

func TestReplayReportsWhatIsKnownOnceMore(t *testing.T) {
	r := open(t, models(), "a.yaml", model("a", 1), "b.yaml", model("b", 1))
	r.next(t, "applied a 1", "applied b 1", "listed models")
	r.Replay(resource.Kind{Group: "sedna.io", Version: "*", Kind: "Model"}, resource.Kind{Version: "v1", Kind: "Node"})
	r.next(t, "applied a 1", "applied b 1")
}

func TestMissingFolderIsToldAndWaitedFor(t *testing.T) {
	r := open(t, nil)
	c := r.config()
	c.Manifests = []string{filepath.Join(r.dir, "later")}
	if err := c.Check(); err == nil {
		t.Error("Check accepts a folder that is not there")
	}
	must(t, r.Apply(c, models()))
	r.next(t, "listed models")
	if s := r.Status().Sources[1]; s.State != "error" || s.Err == "" {
		t.Errorf("got status %+v", s)
	}
	r.write(t, "later/a.yaml", model("a", 1))
	r.next(t, "applied a 1")
}
