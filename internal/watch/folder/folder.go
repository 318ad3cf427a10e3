// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package folder finds the manifest files below folders and tells when something about them may have
// changed: by the system's notifications as far as they go, else by looking.
package folder

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long folders must be quiet before they are read; settleMax bounds the wait.
	settle    = 40 * time.Millisecond
	settleMax = time.Second
	// pollAlone is the time between looks when the system does not tell of changes, pollNotified
	// when it does: some file systems tell only of their own.
	pollAlone    = 2 * time.Second
	pollNotified = 30 * time.Second
)

// Stamp tells whether a file has changed. The inode tells of renames and of swapped links.
type Stamp struct {
	Modified time.Time
	size     int64
	inode    uint64
}

func stampOf(info fs.FileInfo) Stamp {
	s := Stamp{Modified: info.ModTime(), size: info.Size()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = sys.Ino
	}
	return s
}

// Tree is what a walk over the folders finds.
type Tree struct {
	// Files are by path, Dirs are all folders, sorted.
	Files map[string]Stamp
	Dirs  []string
	// Unread are folders that could not be read, with the reason. What was in them counts as still there.
	Unread map[string]error
}

// Gone tells whether a path that the walk did not find is really gone.
func (t Tree) Gone(path string) bool {
	if _, ok := t.Files[path]; ok {
		return false
	}
	for dir := range t.Unread {
		if path == dir || strings.HasPrefix(path, dir+string(filepath.Separator)) {
			return false
		}
	}
	return true
}

// Walk finds the manifest files below the folders. Links are followed, each folder once; names with
// two leading dots are how Kubernetes keeps the versions of a mounted ConfigMap, whose files are
// found through their links.
func Walk(roots []string) Tree {
	t := Tree{Files: map[string]Stamp{}, Unread: map[string]error{}}
	visited := map[string]bool{}
	for _, root := range roots {
		t.walk(filepath.Clean(root), visited, true)
	}
	slices.Sort(t.Dirs)
	return t
}

func (t *Tree) walk(dir string, visited map[string]bool, root bool) {
	target, err := filepath.EvalSymlinks(dir)
	if err == nil && visited[target] {
		return
	}
	var entries []fs.DirEntry
	if err == nil {
		visited[target] = true
		entries, err = os.ReadDir(dir)
	}
	if err != nil {
		if root || !errors.Is(err, fs.ErrNotExist) {
			t.Unread[dir] = err
		}
		return
	}
	t.Dirs = append(t.Dirs, dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		info, err := os.Stat(path) // follows links
		switch {
		case err != nil:
			if !errors.Is(err, fs.ErrNotExist) {
				t.Unread[path] = err
			}
		case info.IsDir():
			t.walk(path, visited, false)
		case info.Mode().IsRegular() && isManifest(path):
			t.Files[path] = stampOf(info)
		}
	}
}

func isManifest(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// Notifier tells of changes in folders, by fsnotify as far as that goes.
type Notifier struct {
	watcher *fsnotify.Watcher // nil: polling only
	dirs    map[string]string // the real path of each, which a swapped link changes
	failed  bool
}

// NewNotifier makes a notifier that follows nothing yet.
func NewNotifier() *Notifier {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		w = nil // out of inotify instances: poll
	}
	return &Notifier{watcher: w, dirs: map[string]string{}}
}

// Close ends it.
func (n *Notifier) Close() {
	if n.watcher != nil {
		_ = n.watcher.Close() // nothing depends on it any more
	}
}

// Follow sets the folders to be told of. It tells whether there are new ones: what happened in
// them before has not been told.
func (n *Notifier) Follow(dirs []string) (added bool) {
	if n.watcher == nil {
		return false
	}
	n.failed = false
	for _, dir := range dirs {
		target, err := filepath.EvalSymlinks(dir)
		if err == nil && n.dirs[dir] == target {
			continue
		}
		n.forget(dir)
		if err == nil {
			err = n.watcher.Add(dir)
		}
		if err != nil {
			n.failed = true
			continue
		}
		n.dirs[dir] = target
		added = true
	}
	for dir := range n.dirs {
		if !slices.Contains(dirs, dir) {
			n.forget(dir)
		}
	}
	return added
}

// Wait returns when something may have changed and has come to rest, or ctx ends.
func (n *Notifier) Wait(ctx context.Context) {
	interval := pollNotified
	if n.watcher == nil || n.failed || len(n.dirs) == 0 {
		interval = pollAlone
	}
	var events chan fsnotify.Event
	var errs chan error
	if n.watcher != nil {
		events, errs = n.watcher.Events, n.watcher.Errors
	}
	poll := time.NewTimer(interval)
	defer poll.Stop()
	select {
	case <-ctx.Done():
		return
	case <-poll.C:
		return
	case err := <-errs: // events were lost: look, whatever it was
		n.failed = n.failed || err != nil
		return
	case e := <-events:
		n.told(e)
	}
	quiet := time.NewTimer(settle)
	defer quiet.Stop()
	limit := time.NewTimer(settleMax)
	defer limit.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-quiet.C:
			return
		case <-limit.C:
			return
		case e := <-events:
			n.told(e)
			quiet.Reset(settle)
		}
	}
}

// told forgets folders that went away: the system follows the folder, not its name.
func (n *Notifier) told(e fsnotify.Event) {
	if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		n.forget(e.Name)
	}
}

func (n *Notifier) forget(dir string) {
	if _, ok := n.dirs[dir]; ok {
		_ = n.watcher.Remove(dir) // it may have gone by itself
		delete(n.dirs, dir)
	}
}
