// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package roster is the folder through which the members of one group know of one another.
//
//	group.json          what all members share: hyper-parameters, data set, how often they meet
//	initial.model       the model they all begin with (a gossip frame)
//	parts/part-NNN.idx  the sample numbers of each part of the data
//	members/NAME.json   written by a peer when it joins, removed by it when it leaves
//	peers.json          written by the launcher: everybody, with address and neighbours
//
// Every file is replaced whole (temporary file, then rename), so a reader sees the old or the new one and
// never half of one. Peers read peers.json again when it has changed. The Python peer reads and writes the
// same files.
package roster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
)

// maxFile bounds how much of a roster file is read.
const maxFile = 4 << 20

// Group is what all members of a group share.
type Group struct {
	Group   string `json:"group"`
	Dataset string `json:"dataset"` // fashion-mnist, or generated
	Data    string `json:"data"`    // folder of the IDX files
	Parts   int    `json:"parts"`
	Seed    uint64 `json:"seed"`

	Rate     float64 `json:"rate"`     // learning rate of the first round
	Decay    float64 `json:"decay"`    // rounds after which the rate has halved
	Epoch    int     `json:"epoch"`    // samples of one training
	Interval float64 `json:"interval"` // seconds from one round to the next
	Duty     float64 `json:"duty"`     // share of a core that one peer may use
	Fanout   int     `json:"fanout"`   // neighbours met in one round
}

// Member is one peer as it describes itself.
type Member struct {
	Peer     string `json:"peer"`
	Group    string `json:"group"`
	Address  string `json:"address"`
	Node     string `json:"node"`
	Location string `json:"location"` // edge or cloud
	Language string `json:"language"` // go or python
	Part     int    `json:"part"`
	PID      int    `json:"pid"`
}

// Entry is one line of peers.json.
type Entry struct {
	Peer       string   `json:"peer"`
	Address    string   `json:"address"`
	Neighbours []string `json:"neighbours"`
}

// Dir is the folder of a group.
type Dir string

// Paths inside the folder.
func (d Dir) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// Initial is the path of the model that everybody begins with.
func (d Dir) Initial() string { return d.path("initial.model") }

// PartFile is the path of the named part of the data.
func (d Dir) PartFile(name string) string { return d.path("parts", name) }

// Peers is the path of the list of everybody.
func (d Dir) Peers() string { return d.path("peers.json") }

// Create makes the folder and what is in it, without members of an earlier run.
func (d Dir) Create(g Group, initial []byte, parts map[string][]byte) error {
	for _, sub := range []string{"members", "parts"} {
		if err := os.RemoveAll(d.path(sub)); err != nil {
			return err
		}
		if err := os.MkdirAll(d.path(sub), 0o755); err != nil {
			return err
		}
	}
	for name, body := range parts {
		if err := WriteFile(d.PartFile(name), body); err != nil {
			return err
		}
	}
	if err := WriteFile(d.Initial(), initial); err != nil {
		return err
	}
	if err := d.WritePeers(nil); err != nil {
		return err
	}
	return writeJSON(d.path("group.json"), g)
}

// Group reads what the members share.
func (d Dir) Group() (Group, error) {
	var g Group
	if err := readJSON(d.path("group.json"), &g); err != nil {
		return g, err
	}
	if !NameOK(g.Group) || g.Parts < 1 || !(g.Rate > 0) || !(g.Decay > 0) || g.Epoch < 1 || !(g.Interval > 0) || !(g.Duty > 0) || g.Fanout < 1 {
		return g, fmt.Errorf("%s: a value is missing or out of range", d.path("group.json"))
	}
	return g, nil
}

// Join writes a member's file, or writes it again.
func (d Dir) Join(m Member) error { return writeJSON(d.memberPath(m.Peer), m) }

// Leave removes a member's file.
func (d Dir) Leave(peer string) error {
	if err := os.Remove(d.memberPath(peer)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Joined says whether the member's file is there.
func (d Dir) Joined(peer string) bool {
	_, err := os.Stat(d.memberPath(peer))
	return err == nil
}

func (d Dir) memberPath(peer string) string { return d.path("members", peer+".json") }

// Members reads all member files, ordered by name. Files that make no sense are left out and reported
// in the error beside the members that do.
func (d Dir) Members() ([]Member, error) {
	files, err := os.ReadDir(d.path("members"))
	if err != nil {
		return nil, err
	}
	var out []Member
	var bad []error
	for _, f := range files {
		name, isJSON := strings.CutSuffix(f.Name(), ".json")
		if !isJSON {
			continue
		}
		var m Member
		switch err := readJSON(d.path("members", f.Name()), &m); {
		case errors.Is(err, fs.ErrNotExist): // left in this moment
		case err != nil:
			bad = append(bad, err)
		case m.Peer != name || !NameOK(m.Peer) || m.Address == "":
			bad = append(bad, fmt.Errorf("member file %s: not a member of that name", f.Name()))
		default:
			out = append(out, m)
		}
	}
	sort.Slice(out, func(i, j int) bool { return less(out[i].Peer, out[j].Peer) })
	return out, errors.Join(bad...)
}

// FreePart is the first of parts that no member has, or one that another has too when all are taken.
func FreePart(members []Member, parts int) int {
	taken := make(map[int]bool, len(members))
	for _, m := range members {
		taken[m.Part] = true
	}
	for i := range parts {
		if !taken[i] {
			return i
		}
	}
	return len(members) % parts
}

// less orders peer-2 before peer-10.
func less(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// WritePeers replaces the list of everybody.
func (d Dir) WritePeers(entries []Entry) error {
	if entries == nil {
		entries = []Entry{}
	}
	return writeJSON(d.Peers(), entries)
}

// ReadPeers reads the list of everybody.
func (d Dir) ReadPeers() ([]Entry, error) {
	var out []Entry
	return out, readJSON(d.Peers(), &out)
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// NameOK says whether s can name a peer or a group: 1 to 63 letters, digits, dots, dashes and underscores.
func NameOK(s string) bool { return namePattern.MatchString(s) }

func readJSON(path string, into any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxFile {
		return fmt.Errorf("%s: %d bytes, more than %d", path, info.Size(), maxFile)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func writeJSON(path string, from any) error {
	body, err := json.MarshalIndent(from, "", "  ")
	if err != nil {
		return err
	}
	return WriteFile(path, append(body, '\n'))
}

// WriteFile replaces the file at path whole: a reader, and a crash, see the old or the new content.
func WriteFile(path string, body []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(body)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
