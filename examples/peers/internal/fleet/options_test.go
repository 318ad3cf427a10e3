// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

func options(t *testing.T) Options {
	dir := t.TempDir()
	return Options{
		Dir: roster.Dir(filepath.Join(dir, "fleet")), SD: filepath.Join(dir, "sd", "targets.json"), Data: filepath.Join(dir, "none"), Group: "test",
		Peers: 3, Spare: 1, Seed: 1, Alpha: 0.5, Speed: 1, Forget: time.Second,
		Log: slog.New(slog.DiscardHandler),
	}
}

func TestOptionsOutOfRangeAreErrors(t *testing.T) {
	for name, change := range map[string]func(o *Options){
		"no peers":       func(o *Options) { o.Peers = 0 },
		"many peers":     func(o *Options) { o.Peers = 100000 },
		"too many in Py": func(o *Options) { o.Python = 4 },
		"spare":          func(o *Options) { o.Spare = -1 },
		"speed":          func(o *Options) { o.Speed = 0 },
		"alpha":          func(o *Options) { o.Alpha = 0 },
		"group":          func(o *Options) { o.Group = "../x" },
		"forget":         func(o *Options) { o.Forget = 0 },
	} {
		o := options(t)
		change(&o)
		if f, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
			_ = f.lock.Close()
		}
	}
}

func TestMissingDataIsMadeUpAndSaidSo(t *testing.T) {
	o := options(t)
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.lock.Close() }()
	g, err := o.Dir.Group()
	if err != nil || g.Dataset != generated || g.Parts != 4 {
		t.Errorf("got %+v, %v", g, err)
	}
	if _, err := os.Stat(o.Dir.PartFile("part-003.idx")); err != nil {
		t.Error(err)
	}
}

func TestOneFleetAFolder(t *testing.T) {
	o := options(t)
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.lock.Close() }()
	if second, err := New(o); err == nil {
		_ = second.lock.Close()
		t.Error("a second fleet took the same folder")
	}
}
