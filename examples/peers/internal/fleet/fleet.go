// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package fleet starts and keeps a group of peers on this machine.
//
// It deals the data, starts the peer processes, and then follows the group's folder ([roster]): peers that
// it started and peers that joined by themselves are treated alike. Twice a second it compares the member
// files with who answers, and when something changed it writes two lists: peers.json, from which the peers
// learn their neighbours, and the file-discovery list for Prometheus.
//
//	members/*.json ──┐
//	who answers ─────┼─> current ─> peers.json (neighbours), SD file (targets)
//	exits of children┘
//
// A peer that leaves removes its member file and is off the lists at once. One that is killed or hangs stays
// listed for [Options.Forget], so that its target is seen to be down, and is then removed.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

const (
	tick         = 500 * time.Millisecond
	probeEvery   = 2 * time.Second
	probeTimeout = time.Second
	stopTimeout  = 5 * time.Second
	maxPeers     = 256
)

// Options say what fleet to start.
type Options struct {
	Dir    roster.Dir
	SD     string // path of the file-discovery list
	LogDir string // folder of the peers' logs; empty: the launcher's stderr
	Data   string // folder of the IDX files
	Group  string

	Peers  int // all peers
	Python int // of them in Python
	Spare  int // parts of the data kept for peers that join later
	Seed   uint64
	Alpha  float64 // of the Dirichlet distribution
	Speed  float64

	Forget  time.Duration // a peer that does not answer is removed after this
	Restart time.Duration // a child that died is started again after this; 0: never
	Churn   time.Duration // every so often a random child is killed or leaves, and comes back; 0: never

	Self        string            // executable that has the peer command
	Interpreter string            // Python with prometheus_client
	Source      map[string][]byte // the Python peer, by file name
	Log         *slog.Logger
}

func (o Options) validate() error {
	switch {
	case o.Peers < 1 || o.Peers > maxPeers:
		return fmt.Errorf("%d peers: want 1 to %d", o.Peers, maxPeers)
	case o.Python < 0 || o.Python > o.Peers:
		return fmt.Errorf("%d peers in Python: want 0 to %d", o.Python, o.Peers)
	case o.Spare < 0 || o.Spare > maxPeers:
		return fmt.Errorf("%d spare parts: want 0 to %d", o.Spare, maxPeers)
	case !(o.Speed > 0 && o.Speed <= 100):
		return fmt.Errorf("speed %g: want more than 0, at most 100", o.Speed)
	case !roster.NameOK(o.Group):
		return fmt.Errorf("group %q: want letters, digits, dots, dashes and underscores", o.Group)
	case o.Forget < tick:
		return fmt.Errorf("forget after %v: want at least %v", o.Forget, tick)
	}
	return nil
}

// Fleet is a running group. Make it with [New]; [Fleet.Run] does the work.
type Fleet struct {
	o       Options
	log     *slog.Logger
	lock    *os.File
	starter *starter
	exits   chan exit
	waiting sync.WaitGroup
	probe   *http.Client
	rng     *rand.Rand
	faults  map[string]string // what the loop complained about last

	mu       sync.Mutex
	children map[string]*child
	revive   map[string]revival
	lastSeen map[string]time.Time // when the peer answered last
	current  []roster.Member
	next     int // number of the next peer
	stopping bool
}

// revival is a child that is to be started again.
type revival struct {
	at    time.Time
	child *child
}

// New prepares the folder and takes its lock. It starts no process.
func New(o Options) (*Fleet, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	f := &Fleet{
		o: o, log: o.Log, exits: make(chan exit), probe: &http.Client{Timeout: probeTimeout, Transport: &http.Transport{}}, faults: map[string]string{},
		rng:      rand.New(rand.NewPCG(o.Seed, 0x666c656574)),
		children: map[string]*child{}, revive: map[string]revival{}, lastSeen: map[string]time.Time{}, next: 1,
	}
	for _, dir := range []string{string(o.Dir), filepath.Dir(o.SD), o.LogDir, f.pythonDir()} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	if f.lock, err = lock(filepath.Join(string(o.Dir), "lock")); err != nil {
		return nil, err
	}
	if _, err := prepare(o, o.Log); err != nil {
		return nil, errors.Join(err, f.lock.Close())
	}
	for name, body := range o.Source {
		if err := roster.WriteFile(filepath.Join(f.pythonDir(), name), body); err != nil {
			return nil, errors.Join(err, f.lock.Close())
		}
	}
	return f, nil
}

func lock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: another fleet runs in this folder: %w", path, err), file.Close())
	}
	return file, nil
}

func (f *Fleet) pythonDir() string { return filepath.Join(string(f.o.Dir), "python") }

// Run starts the peers and follows the group until ctx ends. Then it asks the children to leave, ends those
// that do not, and empties the file-discovery list.
func (f *Fleet) Run(ctx context.Context) (err error) {
	f.starter = newStarter()
	defer f.starter.close()
	defer func() { err = errors.Join(err, f.stop()) }()
	if err := f.writeLists(nil); err != nil {
		return err
	}
	control, err := f.listen()
	if err != nil {
		return err
	}
	defer control()
	for i := range f.o.Peers {
		if _, err := f.Add(languageOf(i, f.o.Peers, f.o.Python)); err != nil {
			return err
		}
	}
	f.log.Info("fleet started", "peers", f.o.Peers, "python", f.o.Python, "dir", string(f.o.Dir), "sd", f.o.SD)
	return f.follow(ctx)
}

// languageOf makes the last python peers Python.
func languageOf(i, peers, python int) string {
	if i >= peers-python {
		return "python"
	}
	return "go"
}

// follow is the launcher's loop.
func (f *Fleet) follow(ctx context.Context) error {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	nextChurn := time.Now().Add(f.o.Churn)
	var probed time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-f.exits:
			f.ended(e)
		case now := <-ticks.C:
			if f.o.Churn > 0 && now.After(nextChurn) {
				f.churn()
				nextChurn = now.Add(f.o.Churn)
			}
			f.reviveDue(now)
			members, err := f.o.Dir.Members()
			f.complain("member files not all readable", err)
			if now.Sub(probed) >= probeEvery {
				f.look(ctx, members)
				probed = now
			}
			f.complain("lists not written", f.update(members, now))
		}
	}
}

// complain logs a fault of the loop when it appears, and not again while it stays the same.
func (f *Fleet) complain(msg string, err error) {
	if err == nil {
		delete(f.faults, msg)
		return
	}
	if f.faults[msg] != err.Error() {
		f.faults[msg] = err.Error()
		f.log.Warn("fault in the group's folder", "fault", msg, "err", err)
	}
}

// look asks all members at once whether they are alive.
func (f *Fleet) look(ctx context.Context, members []roster.Member) {
	var wg sync.WaitGroup
	for _, m := range members {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Address+"/-/healthy", nil)
			if err != nil {
				return
			}
			resp, err := f.probe.Do(req)
			if err != nil {
				return
			}
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				f.mu.Lock()
				defer f.mu.Unlock()
				f.lastSeen[m.Peer] = time.Now()
			}
		})
	}
	wg.Wait()
}

// update removes members that have been silent for too long, and writes the lists when they changed.
func (f *Fleet) update(members []roster.Member, now time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var alive []roster.Member
	for _, m := range members {
		seen, ok := f.lastSeen[m.Peer]
		if !ok { // new: it wrote its file just now
			seen = now
			f.lastSeen[m.Peer] = now
		}
		if now.Sub(seen) > f.o.Forget {
			f.log.Warn("peer removed: it does not answer", "peer", m.Peer, "silent_for", now.Sub(seen).String())
			delete(f.lastSeen, m.Peer)
			if err := f.o.Dir.Leave(m.Peer); err != nil {
				return err
			}
			continue
		}
		alive = append(alive, m)
	}
	for name := range f.lastSeen {
		if !slices.ContainsFunc(alive, func(m roster.Member) bool { return m.Peer == name }) {
			delete(f.lastSeen, name)
		}
	}
	if slices.Equal(alive, f.current) {
		return nil
	}
	if err := f.writeLists(alive); err != nil {
		return err
	}
	f.log.Info("members changed", "peers", len(alive), "before", len(f.current))
	f.current = alive
	return nil
}

func (f *Fleet) writeLists(members []roster.Member) error {
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.Peer
	}
	graph := neighbours(names)
	entries := make([]roster.Entry, len(members))
	for i, m := range members {
		entries[i] = roster.Entry{Peer: m.Peer, Address: m.Address, Neighbours: append([]string{}, graph[m.Peer]...)}
	}
	body, err := json.MarshalIndent(targets(members), "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(f.o.Dir.WritePeers(entries), roster.WriteFile(f.o.SD, append(body, '\n')))
}

// Add starts one more peer and returns its name.
func (f *Fleet) Add(language string) (string, error) {
	if language == "python" && f.o.Interpreter == "" {
		return "", errors.New("no Python with prometheus_client: install python3-prometheus-client")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping {
		return "", errors.New("the fleet ends")
	}
	if len(f.children) >= maxPeers {
		return "", fmt.Errorf("%d peers run already", maxPeers)
	}
	c := &child{name: fmt.Sprintf("peer-%d", f.next), language: language, part: f.freePartLocked()}
	if err := f.spawn(c); err != nil {
		return "", fmt.Errorf("start %s: %w", c.name, err)
	}
	f.next++
	f.children[c.name] = c
	f.log.Info("peer started", "peer", c.name, "language", language, "pid", c.cmd.Process.Pid)
	return c.name, nil
}

// freePartLocked counts the parts of members and of children that have not joined yet.
func (f *Fleet) freePartLocked() int {
	holders := slices.Clone(f.current)
	for _, c := range f.children {
		holders = append(holders, roster.Member{Part: c.part})
	}
	for _, r := range f.revive {
		holders = append(holders, roster.Member{Part: r.child.part})
	}
	return roster.FreePart(holders, f.o.Peers+f.o.Spare)
}

// Remove asks the named child to leave, or kills it.
func (f *Fleet) Remove(name string, kill bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.children[name]
	if !ok {
		return fmt.Errorf("%s is not a peer of this launcher", name)
	}
	if kill {
		c.signal(syscall.SIGKILL)
		return nil
	}
	c.leaving = true
	c.signal(syscall.SIGTERM)
	return nil
}

func (f *Fleet) ended(e exit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.children, e.child.name)
	if e.child.leaving && e.err == nil {
		f.log.Info("peer left", "peer", e.child.name)
		return
	}
	f.log.Warn("peer died", "peer", e.child.name, "err", errText(e.err), "restart_after", f.o.Restart.String())
	if f.o.Restart > 0 {
		f.revive[e.child.name] = revival{time.Now().Add(f.o.Restart), e.child}
	}
}

func errText(err error) string {
	if err == nil {
		return "exited by itself"
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

func (f *Fleet) reviveDue(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, r := range f.revive {
		if _, alive := f.children[name]; alive || now.Before(r.at) {
			continue
		}
		delete(f.revive, name)
		c := &child{name: name, language: r.child.language, part: r.child.part}
		if err := f.spawn(c); err != nil {
			f.log.Error("peer not started again", "peer", name, "err", err)
			f.revive[name] = revival{now.Add(max(f.o.Restart, f.o.Churn)), r.child}
			continue
		}
		f.children[name] = c
		f.log.Info("peer started again", "peer", name, "pid", c.cmd.Process.Pid)
	}
}

// churn kills a random child, or asks it to leave, and lets it come back half a churn later.
func (f *Fleet) churn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.children) < 2 {
		return
	}
	names := make([]string, 0, len(f.children))
	for name := range f.children {
		names = append(names, name)
	}
	slices.Sort(names)
	c := f.children[names[f.rng.IntN(len(names))]]
	if f.rng.IntN(2) == 0 {
		c.signal(syscall.SIGKILL)
	} else {
		c.leaving = true
		c.signal(syscall.SIGTERM)
	}
	f.log.Info("churn", "peer", c.name, "leaves", c.leaving)
	f.revive[c.name] = revival{time.Now().Add(f.o.Churn / 2), c}
}

// stop ends all children and the lists.
func (f *Fleet) stop() error {
	f.mu.Lock()
	f.stopping = true
	for _, c := range f.children {
		c.leaving = true
		c.signal(syscall.SIGTERM)
	}
	left := len(f.children)
	f.mu.Unlock()
	deadline := time.NewTimer(stopTimeout)
	defer deadline.Stop()
	for ; left > 0; left-- {
		select {
		case e := <-f.exits:
			f.ended(e)
			continue
		case <-deadline.C:
		}
		f.mu.Lock()
		for name, c := range f.children {
			f.log.Warn("peer does not leave: killed", "peer", name)
			c.signal(syscall.SIGKILL)
		}
		f.mu.Unlock()
		f.ended(<-f.exits)
	}
	f.waiting.Wait()
	f.probe.CloseIdleConnections()
	f.log.Info("fleet ended")
	return errors.Join(f.writeLists(nil), f.lock.Close())
}
