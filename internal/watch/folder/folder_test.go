// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package folder_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/periplus-io/periplus/internal/watch/folder"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte("x"), 0o644))
}

func TestWalkFollowsLinksOnceAndLeavesHiddenNamesOut(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"a.yaml", "b.JSON", "c.txt", "sub/d.yml", ".hidden/e.yaml", "..data/f.yaml", ".g.yaml"} {
		write(t, filepath.Join(dir, path))
	}
	must(t, os.Symlink(dir, filepath.Join(dir, "sub", "loop")))
	must(t, os.Symlink("..data/f.yaml", filepath.Join(dir, "f.yaml")))
	must(t, os.Symlink("nowhere.yaml", filepath.Join(dir, "dead.yaml")))
	tree := folder.Walk([]string{dir, filepath.Join(dir, "sub"), dir + "/none"})
	var got []string
	for path := range maps.Keys(tree.Files) {
		rel, err := filepath.Rel(dir, path)
		must(t, err)
		got = append(got, rel)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a.yaml", "b.JSON", "f.yaml", "sub/d.yml"}, got); diff != "" {
		t.Error(diff)
	}
	if tree.Unread[dir+"/none"] == nil || tree.Gone(dir+"/none/x.yaml") || !tree.Gone(dir+"/x.yaml") || tree.Gone(dir+"/a.yaml") {
		t.Errorf("a folder that cannot be read must keep its files, others not: %v", tree.Unread)
	}
}

func TestNotifierTellsOfAFolderThatALinkNowLeadsTo(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "one", "a.yaml"))
	write(t, filepath.Join(dir, "two", "a.yaml"))
	link := filepath.Join(dir, "link")
	must(t, os.Symlink("one", link))
	n := folder.NewNotifier()
	defer n.Close()
	if !n.Follow([]string{link}) || n.Follow([]string{link}) {
		t.Error("a folder is new once")
	}
	must(t, os.Remove(link))
	must(t, os.Symlink("two", link))
	if !n.Follow([]string{link}) {
		t.Error("the link leads elsewhere and is not new")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	write(t, filepath.Join(dir, "two", "b.yaml"))
	n.Wait(ctx)
	must(t, ctx.Err())
}
