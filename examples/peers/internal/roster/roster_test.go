// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package roster_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

func group() roster.Group {
	return roster.Group{
		Group: "fashion", Dataset: "fashion-mnist", Data: "/data", Parts: 12, Seed: 1,
		Rate: 0.01, Decay: 400, Epoch: 64, Interval: 2, Duty: 0.06, Fanout: 2,
	}
}

func create(t *testing.T) roster.Dir {
	t.Helper()
	dir := roster.Dir(t.TempDir())
	if err := dir.Create(group(), []byte("initial"), map[string][]byte{"part-000.idx": []byte("part")}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestGroupSurvivesTheRoundTrip(t *testing.T) {
	dir := create(t)
	got, err := dir.Group()
	if err != nil || got != group() {
		t.Errorf("got %+v, %v", got, err)
	}
	entries, err := dir.ReadPeers()
	if err != nil || len(entries) != 0 {
		t.Errorf("peers of a new group: got %v, %v", entries, err)
	}
}

func TestGroupWithNonsenseIsAnError(t *testing.T) {
	for _, body := range []string{"", "{", "{}", `{"group":"a/b"}`, `{"group":"fashion","parts":1,"rate":-1}`, "[]"} {
		dir := create(t)
		if err := os.WriteFile(filepath.Join(string(dir), "group.json"), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := dir.Group(); err == nil {
			t.Errorf("%q: no error", body)
		}
	}
}

func TestMembersJoinAndLeave(t *testing.T) {
	dir := create(t)
	for _, name := range []string{"peer-10", "peer-2", "peer-1"} {
		if err := dir.Join(roster.Member{Peer: name, Group: "fashion", Address: "127.0.0.1:1"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := dir.Leave("peer-1"); err != nil {
		t.Fatal(err)
	}
	if err := dir.Leave("peer-1"); err != nil {
		t.Errorf("leaving twice: %v", err)
	}
	got, err := dir.Members()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range got {
		names = append(names, m.Peer)
	}
	if want := []string{"peer-2", "peer-10"}; !reflect.DeepEqual(names, want) {
		t.Errorf("got %v, want %v", names, want)
	}
	if dir.Joined("peer-1") || !dir.Joined("peer-2") {
		t.Error("Joined does not know who is there")
	}
}

func TestBrokenMemberFilesDoNotHideTheOthers(t *testing.T) {
	dir := create(t)
	if err := dir.Join(roster.Member{Peer: "good", Address: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"half.json": `{"peer":"half`, "other.json": `{"peer":"good","address":"x"}`, "empty.json": "", "note.txt": "x", "huge.json": strings.Repeat(" ", 5<<20),
	} {
		if err := os.WriteFile(filepath.Join(string(dir), "members", name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := dir.Members()
	if len(got) != 1 || got[0].Peer != "good" {
		t.Errorf("got %v", got)
	}
	for _, name := range []string{"half", "other", "empty", "huge"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s.json is not in the error: %v", name, err)
		}
	}
}

func TestWriteFileLeavesNothingBehindOnFailure(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := roster.WriteFile(path, []byte("x")); err == nil {
		t.Error("replaced a folder")
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"peer-1": true, "a": true, strings.Repeat("a", 63): true,
		"": false, strings.Repeat("a", 64): false, "../x": false, ".x": false, "a b": false, "a\n": false, "é": false,
	} {
		if got := roster.NameOK(name); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
}

func TestFreePartIsTheFirstThatNobodyHas(t *testing.T) {
	with := func(parts ...int) (out []roster.Member) {
		for _, p := range parts {
			out = append(out, roster.Member{Part: p})
		}
		return out
	}
	for _, c := range []struct {
		members []roster.Member
		want    int
	}{{nil, 0}, {with(0, 2), 1}, {with(2, 1, 0), 3}, {with(0, 1, 2, 3, 0), 1}} {
		if got := roster.FreePart(c.members, 4); got != c.want {
			t.Errorf("%v: got %d, want %d", c.members, got, c.want)
		}
	}
}
