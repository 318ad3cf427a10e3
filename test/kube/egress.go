// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// egress is where the API server's connections to nodes end. The API server refuses loopback
// addresses of nodes, so nodes have documentation addresses that nothing dials, and the server is told
// to reach them by CONNECT on a unix socket. Egress answers there, ends TLS and passes requests on to
// KWOK, which is one kubelet for all nodes and wants the node's name in the path.
type egress struct {
	socket string
	server *http.Server
	wg     sync.WaitGroup

	mu    sync.Mutex
	nodes map[string]string // name by address
	kwok  *url.URL
	cert  tls.Certificate
}

// newEgress picks a socket outside of the cluster's folder: paths of sockets are limited to 100 bytes.
func newEgress() (*egress, error) {
	dir, err := os.MkdirTemp("", "kube")
	if err != nil {
		return nil, err
	}
	return &egress{socket: filepath.Join(dir, "egress"), nodes: map[string]string{}}, nil
}

// config is the API server's configuration file.
func (e *egress) config() string {
	return fmt.Sprintf(`apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport: {uds: {udsName: %q}}
`, e.socket)
}

// start listens; kwok is where requests go, cert what nodes identify themselves with.
func (e *egress) start(kwok *url.URL, cert tls.Certificate) error {
	l, err := net.Listen("unix", e.socket)
	if err != nil {
		return fmt.Errorf("listen for the API server: %w", err)
	}
	e.kwok, e.cert = kwok, cert
	e.server = &http.Server{Handler: http.HandlerFunc(e.connect)}
	e.wg.Go(func() { _ = e.server.Serve(l) })
	return nil
}

func (e *egress) close() error {
	if e == nil {
		return nil
	}
	var err error
	if e.server != nil {
		err = e.server.Close()
		e.wg.Wait()
	}
	return errors.Join(err, os.RemoveAll(filepath.Dir(e.socket)))
}

func (e *egress) add(address, node string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.nodes[address] = node
}

// connect answers CONNECT and serves HTTP inside the connection.
func (e *egress) connect(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.Host)
	e.mu.Lock()
	node, ok := e.nodes[host]
	e.mu.Unlock()
	hijacker, can := w.(http.Hijacker)
	if r.Method != http.MethodConnect || !ok || !can {
		http.Error(w, "no such node", http.StatusBadGateway)
		return
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		_ = conn.Close()
		return
	}
	inner := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{e.cert}})
	l := &oneConn{conn: inner, closed: make(chan struct{})}
	server := &http.Server{Handler: e.proxy(node), ConnState: func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed || s == http.StateHijacked {
			_ = l.Close()
		}
	}}
	_ = server.Serve(l)
}

// proxy passes requests for a node on, with its name in the path of metrics.
func (e *egress) proxy(node string) http.Handler {
	return &httputil.ReverseProxy{Transport: insecure(), FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(e.kwok)
		if rest, ok := strings.CutPrefix(r.In.URL.Path, "/metrics/"); ok && !strings.HasPrefix(rest, "nodes/") {
			r.Out.URL.Path = NodeMetricsPath(node, rest)
		}
	}}
}

// NodeMetricsPath is where KWOK itself serves metrics of a node: what is cadvisor or resource.
func NodeMetricsPath(node, what string) string { return "/metrics/nodes/" + node + "/metrics/" + what }

// oneConn is a listener that gives one connection and ends with it.
type oneConn struct {
	mu     sync.Mutex
	conn   net.Conn
	once   sync.Once
	closed chan struct{}
}

// Accept gives the connection, and io.EOF when that has been closed.
func (l *oneConn) Accept() (net.Conn, error) {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	<-l.closed
	return nil, io.EOF
}

// Close ends Accept.
func (l *oneConn) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is of no use.
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }
