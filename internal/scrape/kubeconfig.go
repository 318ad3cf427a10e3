// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package scrape

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"

	commonconfig "github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"
)

// access is how a kubeconfig's context reaches its API server, for scraping. Discovery reads the file by
// itself; a scrape job takes only these settings.
type access struct {
	scheme, host, prefix string
	tls                  commonconfig.TLSConfig
	authorization        *commonconfig.Authorization
	basic                *commonconfig.BasicAuth
}

// kubeconfig is the part of the file that is read here.
type kubeconfig struct {
	CurrentContext string `yaml:"current-context"`
	Contexts       []struct {
		Name    string `yaml:"name"`
		Context struct {
			Cluster string `yaml:"cluster"`
			User    string `yaml:"user"`
		} `yaml:"context"`
	} `yaml:"contexts"`
	Clusters []struct {
		Name    string      `yaml:"name"`
		Cluster kubeCluster `yaml:"cluster"`
	} `yaml:"clusters"`
	Users []struct {
		Name string   `yaml:"name"`
		User kubeUser `yaml:"user"`
	} `yaml:"users"`
}

type kubeCluster struct {
	Server        string `yaml:"server"`
	CAFile        string `yaml:"certificate-authority"`
	CAData        string `yaml:"certificate-authority-data"`
	Insecure      bool   `yaml:"insecure-skip-tls-verify"`
	TLSServerName string `yaml:"tls-server-name"`
}

type kubeUser struct {
	CertFile  string    `yaml:"client-certificate"`
	CertData  string    `yaml:"client-certificate-data"`
	KeyFile   string    `yaml:"client-key"`
	KeyData   string    `yaml:"client-key-data"`
	Token     string    `yaml:"token"`
	TokenFile string    `yaml:"tokenFile"`
	Username  string    `yaml:"username"`
	Password  string    `yaml:"password"`
	Exec      yaml.Node `yaml:"exec"`
	Provider  yaml.Node `yaml:"auth-provider"`
}

func readKubeconfig(path, context string) (*access, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	var k kubeconfig
	if err := yaml.Unmarshal(data, &k); err != nil {
		return nil, fmt.Errorf("parse kubeconfig %s: %w", path, err)
	}
	if context != "" {
		k.CurrentContext = context
	}
	cluster, user, err := k.current()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	a, err := newAccess(cluster, user, filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", path, err)
	}
	return a, nil
}

// current gives cluster and user of the current context.
func (k *kubeconfig) current() (cluster kubeCluster, user kubeUser, err error) {
	for _, c := range k.Contexts {
		if c.Name != k.CurrentContext {
			continue
		}
		found := false
		for _, cl := range k.Clusters {
			if cl.Name == c.Context.Cluster {
				cluster, found = cl.Cluster, true
			}
		}
		if !found {
			return cluster, user, fmt.Errorf("context %q names no known cluster", c.Name)
		}
		for _, u := range k.Users {
			if u.Name == c.Context.User {
				user = u.User
			}
		}
		return cluster, user, nil
	}
	return cluster, user, fmt.Errorf("%q is not one of its contexts", k.CurrentContext)
}

// errProgram is the one way of access that scraping cannot use, though clients of the API server can.
var errProgram = errors.New("the user gets its credentials from a program")

func newAccess(c kubeCluster, u kubeUser, dir string) (*access, error) {
	if !u.Exec.IsZero() || !u.Provider.IsZero() {
		return nil, errProgram
	}
	server, err := url.Parse(c.Server)
	if err != nil || server.Host == "" {
		return nil, fmt.Errorf("bad server %q", c.Server)
	}
	a := &access{scheme: server.Scheme, host: server.Host, prefix: server.Path}
	if server.Port() == "" {
		port := "443"
		if server.Scheme == "http" {
			port = "80"
		}
		a.host = net.JoinHostPort(server.Hostname(), port)
	}
	for _, v := range []struct {
		what, encoded, file string
		data, path          *string
	}{
		{"certificate-authority-data", c.CAData, c.CAFile, &a.tls.CA, &a.tls.CAFile},
		{"client-certificate-data", u.CertData, u.CertFile, &a.tls.Cert, &a.tls.CertFile},
	} {
		if err := material(v.what, v.encoded, v.file, dir, v.data, v.path); err != nil {
			return nil, err
		}
	}
	var key string
	if err := material("client-key-data", u.KeyData, u.KeyFile, dir, &key, &a.tls.KeyFile); err != nil {
		return nil, err
	}
	a.tls.Key = commonconfig.Secret(key)
	a.tls.ServerName, a.tls.InsecureSkipVerify = c.TLSServerName, c.Insecure
	if c.Insecure {
		a.tls.CA, a.tls.CAFile = "", ""
	}
	a.authorization = bearer(u.Token, commonconfig.JoinDir(dir, u.TokenFile))
	if u.Username != "" && a.authorization == nil {
		a.basic = &commonconfig.BasicAuth{Username: u.Username, Password: commonconfig.Secret(u.Password)}
	}
	return a, nil
}

// material takes a certificate or key from where a kubeconfig has it; what is in the file itself goes first.
func material(what, encoded, file, dir string, data, path *string) error {
	if encoded == "" {
		*path = commonconfig.JoinDir(dir, file)
		return nil
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	*data = string(b)
	return nil
}
