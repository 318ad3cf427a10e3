// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

// child is one peer process that the launcher started.
type child struct {
	name     string
	language string
	part     int
	cmd      *exec.Cmd
	log      *os.File // nil when it writes to the launcher's stderr
	leaving  bool     // was asked to leave
}

// exit is how a child ended.
type exit struct {
	child *child
	err   error
}

// starter starts processes from one thread that lives as long as the launcher, because Linux sends a
// child's parent-death signal when the starting *thread* ends.
type starter struct {
	jobs chan func()
	done chan struct{}
}

func newStarter() *starter {
	s := &starter{jobs: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		defer close(s.done)
		for job := range s.jobs {
			job()
		}
	}()
	return s
}

func (s *starter) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	s.jobs <- func() { result <- cmd.Start() }
	return <-result
}

func (s *starter) close() {
	close(s.jobs)
	<-s.done
}

// spawn starts c and arranges that its end arrives on f.exits.
func (f *Fleet) spawn(c *child) error {
	node, location := place(c.part)
	args := []string{
		"--join", string(f.o.Dir), "--name", c.name, "--part", strconv.Itoa(c.part),
		"--node", node, "--location", location,
	}
	switch c.language {
	case "go":
		c.cmd = exec.Command(f.o.Self, append([]string{"peer"}, args...)...)
		c.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	case "python":
		c.cmd = exec.Command(f.o.Interpreter, append([]string{filepath.Join(f.pythonDir(), "peer.py")}, args...)...)
		c.cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	default:
		return fmt.Errorf("language %q: want go or python", c.language)
	}
	c.cmd.SysProcAttr = childAttr()
	c.cmd.Stderr = os.Stderr
	c.cmd.Stdout = os.Stderr
	if f.o.LogDir != "" {
		path := filepath.Join(f.o.LogDir, c.name+".log")
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		c.log, c.cmd.Stderr, c.cmd.Stdout = file, file, file
	}
	if err := f.starter.start(c.cmd); err != nil {
		return errors.Join(err, c.closeLog())
	}
	f.waiting.Go(func() {
		err := c.cmd.Wait()
		f.exits <- exit{c, errors.Join(err, c.closeLog())}
	})
	return nil
}

func (c *child) closeLog() error {
	if c.log == nil {
		return nil
	}
	return c.log.Close()
}

func (c *child) signal(s syscall.Signal) { _ = c.cmd.Process.Signal(s) } // it may have ended already

// place spreads peers over nodes: three at the edge, then one in the cloud.
func place(part int) (node, location string) {
	if part%4 == 3 {
		return fmt.Sprintf("cloud-%d", part/4+1), "cloud"
	}
	return fmt.Sprintf("edge-%d", part-part/4+1), "edge"
}

// target is one group of Prometheus' file discovery.
type target struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

func targets(members []roster.Member) []target {
	out := make([]target, 0, len(members))
	for _, m := range members {
		out = append(out, target{
			Targets: []string{m.Address},
			Labels:  map[string]string{"peer": m.Peer, "group": m.Group, "node": m.Node, "location": m.Location},
		})
	}
	return out
}
