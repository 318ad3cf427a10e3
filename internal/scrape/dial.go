// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package scrape

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
)

var errTooMuch = errors.New("the target sent more than any body_size_limit allows")

// dialer makes connections that end when a target sends too much. Prometheus stops keeping a body at the
// limit of its job but reads on until the timeout, which costs a core for a target that streams for ever.
type dialer struct {
	net.Dialer
	// limit is the number of bytes that may come after a request.
	limit atomic.Int64
	cut   func() // counts
	// open ends at shutdown and all connections with it; otherwise a stop waits for every scrape under way.
	open  context.Context
	close context.CancelFunc
}

func newDialer(cut func()) *dialer {
	d := &dialer{cut: cut}
	d.open, d.close = context.WithCancel(context.Background())
	return d
}

// dial is what the HTTP clients of all jobs use.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.open, cancel)()
	nc, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, dialer: d}
	c.forget = context.AfterFunc(d.open, func() { _ = nc.Close() })
	return c, nil
}

type conn struct {
	net.Conn
	dialer *dialer
	forget func() bool
	read   atomic.Int64 // since the last write
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.forget()
	return c.Conn.Close()
}

// Write implements [net.Conn]: a request begins.
func (c *conn) Write(b []byte) (int, error) {
	c.read.Store(0)
	return c.Conn.Write(b)
}

// Read implements [net.Conn].
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if before := c.read.Add(int64(n)) - int64(n); before > c.dialer.limit.Load() {
		c.dialer.cut()
		return 0, errTooMuch
	}
	return n, err
}
