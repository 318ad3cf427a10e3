// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package scrape

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/alecthomas/units"
	commonconfig "github.com/prometheus/common/config"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery"
	_ "github.com/prometheus/prometheus/discovery/file" // The default jobs use it.
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"go.yaml.in/yaml/v2"

	deploy "github.com/periplus-io/periplus/deploy/scrape"
)

// Limits of a scrape where the configuration gives none. A large kube-state-metrics stays below them.
const (
	bodySizeLimit         = 128 * units.MiB
	sampleLimit           = 1_000_000
	labelLimit            = 128
	labelNameLengthLimit  = 1024
	labelValueLengthLimit = 64 << 10
)

// inPod begins the paths of a pod's credentials in the default jobs.
const inPod = "/var/run/secrets/kubernetes.io/serviceaccount/"

// proxyAddress is the API server as the default jobs name it.
const proxyAddress = "kubernetes.default.svc:443"

// podDiscovery is how the files of jobs that are there without a cluster, too, find pods.
const podDiscovery = "    kubernetes_sd_configs:\n      - role: pod\n"

// Defaults say which default jobs there are.
type Defaults struct {
	// Dir is the folder that holds peers/ and ipfs/ with lists of targets.
	Dir string
	// Cluster is nil without a Kubernetes cluster: then the jobs know only targets from files.
	Cluster *Cluster
	// Log gets a warning when a default job must be left out; nil drops it.
	Log *slog.Logger
}

// Cluster says how default jobs reach a Kubernetes cluster.
type Cluster struct {
	// Kubeconfig is the file to use; empty means the service account of the pod this runs in.
	Kubeconfig string
	// Context is one of its contexts; empty means its current one.
	Context string
	// ThroughAPIServer asks kubelets through the API server instead of on their nodes.
	ThroughAPIServer bool
}

// Complete puts limits and the default jobs into cfg, which was just loaded and is not in use yet. A job of
// the user replaces the default job of the same name; one without targets switches it off. A limit that is
// given, globally or for a job, holds.
func Complete(cfg *promconfig.Config, d Defaults) error {
	limit(&cfg.GlobalConfig)
	taken := map[string]bool{}
	for _, j := range cfg.ScrapeConfigs {
		taken[j.JobName] = true
		if err := j.Validate(cfg.GlobalConfig); err != nil { // It takes over the limits.
			return fmt.Errorf("complete job %s: %w", j.JobName, err)
		}
	}
	jobs, err := defaultJobs(d)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if taken[j.JobName] {
			continue
		}
		if err := j.Validate(cfg.GlobalConfig); err != nil {
			return fmt.Errorf("complete default job %s: %w", j.JobName, err)
		}
		j.SetDirectory(d.Dir)
		cfg.ScrapeConfigs = append(cfg.ScrapeConfigs, j)
	}
	return nil
}

// limit fills in the limits that are not given.
func limit(g *promconfig.GlobalConfig) {
	if g.BodySizeLimit == 0 {
		g.BodySizeLimit = bodySizeLimit
	}
	for v, d := range map[*uint]uint{
		&g.SampleLimit: sampleLimit, &g.LabelLimit: labelLimit,
		&g.LabelNameLengthLimit: labelNameLengthLimit, &g.LabelValueLengthLimit: labelValueLengthLimit,
	} {
		if *v == 0 {
			*v = d
		}
	}
}

// files names the files of default jobs in the order in which they are shown.
func files(d Defaults) []string {
	names := []string{"peers.yaml", "ipfs.yaml"}
	switch {
	case d.Cluster == nil:
	case d.Cluster.ThroughAPIServer:
		names = append(names, "kubernetes.yaml", "kubelet-proxy.yaml")
	default:
		names = append(names, "kubernetes.yaml", "kubelet.yaml")
	}
	return names
}

// DefaultJobs gives the default jobs as the YAML to start a file of one's own from, comments included. With a
// cluster they are those of a pod in it.
func DefaultJobs(d Defaults) (string, error) {
	var b strings.Builder
	b.WriteString("scrape_configs:\n")
	for _, name := range files(d) {
		text, err := deploy.Files.ReadFile(name)
		if err != nil {
			return "", fmt.Errorf("read default jobs: %w", err)
		}
		head, jobs, _ := strings.Cut(string(text), "scrape_configs:\n")
		for line := range strings.Lines(head) {
			b.WriteString("  " + line)
		}
		if d.Cluster == nil {
			jobs = strings.ReplaceAll(jobs, podDiscovery, "")
		}
		b.WriteString(jobs + "\n")
	}
	return strings.TrimRight(b.String(), "\n") + "\n", nil
}

func defaultJobs(d Defaults) ([]*promconfig.ScrapeConfig, error) {
	var jobs []*promconfig.ScrapeConfig
	for _, name := range files(d) {
		text, err := deploy.Files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read default jobs: %w", err)
		}
		var file promconfig.ScrapeConfigs
		if err := yaml.UnmarshalStrict(text, &file); err != nil {
			return nil, fmt.Errorf("default jobs %s: %w", name, err)
		}
		jobs = append(jobs, file.ScrapeConfigs...)
	}
	if d.Cluster == nil {
		for _, j := range jobs {
			j.ServiceDiscoveryConfigs = withoutKubernetes(j.ServiceDiscoveryConfigs)
		}
		return jobs, nil
	}
	if d.Cluster.Kubeconfig == "" {
		return jobs, nil
	}
	access, err := readKubeconfig(d.Cluster.Kubeconfig, d.Cluster.Context)
	switch {
	case errors.Is(err, errProgram):
		log := d.Log
		if log == nil {
			log = slog.New(slog.DiscardHandler)
		}
		log.Warn("default jobs for API servers and kubelets left out, give them a token file in jobs of your own", "err", err)
		jobs = slices.DeleteFunc(jobs, needsCredentials)
		if d.Cluster.Context != "" { // Discovery by itself knows the current one.
			for _, j := range jobs {
				j.ServiceDiscoveryConfigs = withoutKubernetes(j.ServiceDiscoveryConfigs)
			}
		}
	case err != nil:
		return nil, fmt.Errorf("default jobs: %w", err)
	}
	for _, j := range jobs {
		access.fit(j, *d.Cluster)
	}
	return jobs, nil
}

func withoutKubernetes(configs discovery.Configs) discovery.Configs {
	var kept discovery.Configs
	for _, c := range configs {
		if _, ok := c.(*kubernetes.SDConfig); !ok {
			kept = append(kept, c)
		}
	}
	return kept
}

// needsCredentials tells the jobs that show the API server's credentials to their targets.
func needsCredentials(j *promconfig.ScrapeConfig) bool {
	a := j.HTTPClientConfig.Authorization
	return a != nil && strings.HasPrefix(a.CredentialsFile, inPod)
}

// fit changes a default job from a pod's credentials to those of a kubeconfig.
func (a *access) fit(j *promconfig.ScrapeConfig, c Cluster) {
	for _, sd := range j.ServiceDiscoveryConfigs {
		k, ok := sd.(*kubernetes.SDConfig)
		switch {
		case !ok:
		case c.Context == "":
			k.KubeConfig = c.Kubeconfig
		default: // Discovery reads the current context only, so it gets the settings of the other.
			k.APIServer = commonconfig.URL{URL: &url.URL{Scheme: a.scheme, Host: a.host, Path: a.prefix}}
			k.HTTPClientConfig.TLSConfig = a.tls
			k.HTTPClientConfig.Authorization, k.HTTPClientConfig.BasicAuth = a.authorization, a.basic
		}
	}
	if !needsCredentials(j) {
		return
	}
	h := &j.HTTPClientConfig
	skip := h.TLSConfig.InsecureSkipVerify || a.tls.InsecureSkipVerify
	h.TLSConfig = a.tls
	h.Authorization, h.BasicAuth = a.authorization, a.basic
	toServer := false
	for _, r := range j.RelabelConfigs {
		switch {
		case r.Replacement == proxyAddress:
			r.Replacement, toServer = a.host, true
		case strings.HasPrefix(r.Replacement, "/api/v1/nodes/"):
			r.Replacement = a.prefix + r.Replacement
		}
	}
	if toServer {
		j.Scheme = a.scheme
		return
	}
	// The kubeconfig's certificates are those of the API server; other servers have names of their own.
	h.TLSConfig.InsecureSkipVerify = skip
	if skip {
		h.TLSConfig.CA, h.TLSConfig.CAFile = "", ""
	}
	h.TLSConfig.ServerName = ""
}

// bearer makes the Authorization header of a token or of a file that holds one.
func bearer(token, file string) *commonconfig.Authorization {
	if token == "" && file == "" {
		return nil
	}
	a := &commonconfig.Authorization{Type: "Bearer", CredentialsFile: file}
	if file == "" {
		a.Credentials = commonconfig.Secret(token)
	}
	return a
}
