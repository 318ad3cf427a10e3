// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package kube starts a real etcd, kube-apiserver and, if asked, KWOK for tests: on loopback, in a
// scratch folder, in about three seconds. The binaries are built from the module in test/k8sbin by
// build.sh, once per machine. All processes die with the test process, however it ends.
//
// One [Cluster] serves a whole test package: start it in TestMain and use a namespace for each test.
// [Cluster.CreateDefinitions] adds Sedna's kinds, [Driver] plays learning jobs on them, and
// [Cluster.StartNodes] simulates nodes with pods and kubelet metrics.
package kube

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// Options say what a cluster is to be.
type Options struct {
	// Dir is an existing scratch folder; it holds data, certificates and logs.
	Dir string
	// Args are further flags of the API server.
	Args []string
}

// Cluster is a running control plane.
type Cluster struct {
	// Config is the administrator's access; Kubeconfig is the same as a file.
	Config     *rest.Config
	Kubeconfig string
	// Dynamic is a client with Config, without rate limit.
	Dynamic dynamic.Interface
	Dir     string

	bin       string
	port      int
	token     string
	etcdURL   string
	etcd      *process
	apiserver *process
	kwok      *process
	egress    *egress
	args      []string
}

// Start brings a control plane up and returns when it is ready. Stop must be called if err is nil.
func Start(ctx context.Context, o Options) (c *Cluster, err error) {
	bin, err := build(ctx)
	if err != nil {
		return nil, err
	}
	c = &Cluster{Dir: o.Dir, bin: bin, token: rand.Text()}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := c.startEtcd(ctx); err != nil {
		return nil, err
	}
	if err := c.prepare(o); err != nil {
		return nil, err
	}
	if err := c.StartServer(ctx); err != nil {
		return nil, err
	}
	if err := c.connect(); err != nil {
		return nil, err
	}
	return c, nil
}

// build runs build.sh and gives the folder of the binaries.
func build(ctx context.Context) (string, error) {
	script := filepath.Join(folder(), "build.sh")
	cmd := exec.CommandContext(ctx, "bash", script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build the test cluster: %w", err)
	}
	return strings.TrimSpace(out.String()), nil
}

// folder is that of this package's sources.
func folder() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	client, err := freePort()
	if err != nil {
		return err
	}
	peer, err := freePort()
	if err != nil {
		return err
	}
	c.etcdURL = "http://127.0.0.1:" + strconv.Itoa(client)
	c.args = []string{"--etcd-servers=" + c.etcdURL}
	c.etcd, err = startProcess(c.Dir, filepath.Join(c.bin, "etcd"),
		"--data-dir="+filepath.Join(c.Dir, "etcd"),
		"--listen-client-urls="+c.etcdURL, "--advertise-client-urls="+c.etcdURL,
		"--listen-peer-urls=http://127.0.0.1:"+strconv.Itoa(peer),
		"--quota-backend-bytes=4294967296", "--unsafe-no-fsync", "--log-level=warn")
	if err != nil {
		return err
	}
	return c.etcd.ready(ctx, http.DefaultTransport, c.etcdURL+"/health", "")
}

// prepare writes the files that the API server starts from.
func (c *Cluster) prepare(o Options) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	account := filepath.Join(c.Dir, "sa.key")
	tokens := filepath.Join(c.Dir, "tokens.csv")
	if c.port, err = freePort(); err != nil {
		return err
	}
	if c.egress, err = newEgress(); err != nil {
		return err
	}
	selector := filepath.Join(c.Dir, "egress.yaml")
	err = errors.Join(
		os.WriteFile(account, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600),
		os.WriteFile(tokens, []byte(c.token+",admin,admin,system:masters\n"), 0o600),
		os.WriteFile(selector, []byte(c.egress.config()), 0o600),
	)
	c.args = append(c.args,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+strconv.Itoa(c.port),
		"--cert-dir="+c.certificates(),
		"--token-auth-file="+tokens, "--authorization-mode=RBAC", "--anonymous-auth=false",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+account, "--service-account-signing-key-file="+account,
		"--service-cluster-ip-range=10.0.0.0/24",
		"--disable-admission-plugins=ServiceAccount", // there is no controller that makes accounts
		"--endpoint-reconciler-type=none",            // loopback may not be an endpoint
		"--enable-priority-and-fairness=false", "--max-requests-inflight=0", "--max-mutating-requests-inflight=0",
		"--profiling=false", "--kubelet-preferred-address-types=InternalIP",
		"--egress-selector-config-file="+selector,
	)
	c.args = append(c.args, o.Args...)
	return err
}

func (c *Cluster) certificates() string { return filepath.Join(c.Dir, "certs") }

// StartServer starts the API server and waits until it is ready. Start has done so; it is for after
// KillServer.
func (c *Cluster) StartServer(ctx context.Context) (err error) {
	c.apiserver, err = startProcess(c.Dir, filepath.Join(c.bin, "kube-apiserver"), c.args...)
	if err != nil {
		return err
	}
	return c.apiserver.ready(ctx, insecure(), c.url()+"/readyz", c.token)
}

// KillServer ends the API server as a crash would. etcd stays.
func (c *Cluster) KillServer() error { return c.apiserver.kill() }

func (c *Cluster) url() string { return "https://127.0.0.1:" + strconv.Itoa(c.port) }

// connect makes the administrator's access.
func (c *Cluster) connect() (err error) {
	c.Config = c.configFor(c.token)
	if c.Kubeconfig, err = c.writeKubeconfig("admin", c.token); err != nil {
		return err
	}
	c.Dynamic, err = dynamic.NewForConfig(c.Config)
	return err
}

func (c *Cluster) configFor(token string) *rest.Config {
	// The server signs its certificate itself: it is leaf and authority.
	ca := filepath.Join(c.certificates(), "apiserver.crt")
	return &rest.Config{Host: c.url(), BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAFile: ca}, QPS: -1}
}

func (c *Cluster) writeKubeconfig(user, token string) (string, error) {
	path := filepath.Join(c.Dir, user+".kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: %q, user: {token: %q}}]
contexts: [{name: test, context: {cluster: test, user: %q, namespace: default}}]
`, c.url(), filepath.Join(c.certificates(), "apiserver.crt"), user, token, user)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// Stop ends all processes, those started last first.
func (c *Cluster) Stop() error {
	return errors.Join(c.kwok.stop(), c.egress.close(), c.apiserver.stop(), c.etcd.stop())
}

// freePort gives a port of loopback that nobody listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}

// pollInterval is the time between looks at something that is awaited.
const pollInterval = 50 * time.Millisecond

// Poll calls done until it says true or ctx ends.
func Poll(ctx context.Context, done func() bool) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Compact makes etcd forget all revisions but the newest, as it does by itself every few minutes.
func (c *Cluster) Compact(ctx context.Context) error {
	var status struct {
		Header struct {
			Revision string `json:"revision"`
		} `json:"header"`
	}
	if err := c.etcdCall(ctx, "/v3/maintenance/status", struct{}{}, &status); err != nil {
		return err
	}
	return c.etcdCall(ctx, "/v3/kv/compaction", map[string]any{"revision": status.Header.Revision, "physical": true}, &struct{}{})
}

// etcdCall uses etcd's JSON gateway.
func (c *Cluster) etcdCall(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.etcdURL+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd %s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
