// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package kube_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/periplus-io/periplus/internal/watch"
	"github.com/periplus-io/periplus/test/kube"
)

// link is a network between a watcher and the API server that can be cut.
type link struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]bool
}

func newLink(t *testing.T, target string) *link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	k := &link{listener: l, target: target, conns: map[net.Conn]bool{}}
	k.wg.Go(k.serve)
	t.Cleanup(func() {
		_ = l.Close()
		k.cut(true)
		k.wg.Wait()
	})
	return k
}

func (k *link) serve() {
	for {
		in, err := k.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", k.target)
		if err != nil || !k.add(in, out) {
			_ = in.Close()
			continue
		}
		k.wg.Go(func() { k.pipe(in, out) })
		k.wg.Go(func() { k.pipe(out, in) })
	}
}

func (k *link) add(conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		k.conns[c] = true
	}
	return !k.down
}

func (k *link) pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_ = to.Close()
	_ = from.Close()
}

// cut breaks all connections and, while down, each new one.
func (k *link) cut(down bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = down
	for c := range k.conns {
		_ = c.Close()
		delete(k.conns, c)
	}
}

// kubeconfig is the administrator's through the link.
func (k *link) kubeconfig(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(cluster.Kubeconfig)
	must(t, err)
	path := t.TempDir() + "/kubeconfig"
	direct := strings.TrimPrefix(cluster.Config.Host, "https://")
	must(t, os.WriteFile(path, []byte(strings.Replace(string(text), direct, k.listener.Addr().String(), 1)), 0o600))
	return path
}

func TestWhatHappenedWhileAwayIsFoundOut(t *testing.T) {
	for _, compact := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacted %v", compact), func(t *testing.T) { whileAway(t, compact) })
	}
}

// whileAway cuts the link, changes, deletes and makes jobs, and restores it. If compact is set, the
// API server has forgotten the history by then.
func whileAway(t *testing.T, compact bool) {
	const n = 10
	k := newLink(t, strings.TrimPrefix(cluster.Config.Host, "https://"))
	c, ns := inNamespace(t, config(k.kubeconfig(t)))
	driver := cluster.Driver(ns)
	name := func(i int) string { return fmt.Sprintf("job-%02d", i) }
	for i := range n {
		must(t, driver.Create(t.Context(), name(i)))
	}
	r := newRecorder(t)
	w := watching(t, r.handle, c, sedna("LifelongLearningJob"))
	eventually(t, 20*time.Second, "all jobs", func() bool { return r.size() == n && w.Status().Ready() })

	k.cut(true)
	eventually(t, 30*time.Second, "the loss is noticed", func() bool { return state(w, "LifelongLearningJob") == watch.StateError })
	step := kube.Condition{Stage: "Train", Type: "Waiting", At: time.Now()}
	must(t, driver.Append(t.Context(), name(0), step))
	must(t, driver.Delete(t.Context(), name(1)))
	must(t, driver.Delete(t.Context(), name(2)))
	must(t, driver.Create(t.Context(), name(2))) // the same name, another object
	must(t, driver.Create(t.Context(), "new"))
	if compact {
		must(t, cluster.Compact(t.Context()))
		must(t, cluster.KillServer())
		must(t, cluster.StartServer(t.Context()))
	}
	k.cut(false)

	eventually(t, 40*time.Second, "new job", func() bool {
		return r.get("LifelongLearningJob", ns, "new") != nil && r.get("LifelongLearningJob", ns, name(1)) == nil &&
			len(r.history("LifelongLearningJob", ns, name(0))) == 2 && len(r.history("LifelongLearningJob", ns, name(2))) == 3
	})
	if got := r.history("LifelongLearningJob", ns, name(2)); got[1] != "deleted" {
		t.Errorf("the job that was made anew went through %v", got)
	}
	for i := 3; i < n; i++ {
		if got := r.history("LifelongLearningJob", ns, name(i)); len(got) != 1 {
			t.Errorf("%s went through %v, but nothing happened to it", name(i), got)
		}
	}
}
