// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package scrape_test

import (
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/file"
	"github.com/prometheus/prometheus/discovery/kubernetes"
	"github.com/prometheus/prometheus/model/labels"
	promscrape "github.com/prometheus/prometheus/scrape"

	"github.com/periplus-io/periplus/internal/scrape"
)

func complete(t *testing.T, text string, d scrape.Defaults) map[string]*promconfig.ScrapeConfig {
	t.Helper()
	cfg, err := promconfig.Load(text, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := scrape.Complete(cfg, d); err != nil {
		t.Fatal(err)
	}
	list, err := cfg.GetScrapeConfigs()
	if err != nil {
		t.Fatal(err)
	}
	jobs := map[string]*promconfig.ScrapeConfig{}
	for _, j := range list {
		jobs[j.JobName] = j
	}
	if len(jobs) != len(list) {
		t.Errorf("jobs are there twice: %d of %d", len(jobs), len(list))
	}
	return jobs
}

func names(jobs map[string]*promconfig.ScrapeConfig) []string {
	var out []string
	for name := range jobs {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func TestDefaultJobsDependOnTheCluster(t *testing.T) {
	alone := complete(t, "", scrape.Defaults{Dir: "/data"})
	if diff := cmp.Diff([]string{"ipfs", "peers"}, names(alone)); diff != "" {
		t.Errorf("without a cluster (-want +got)\n%s", diff)
	}
	configs := alone["peers"].ServiceDiscoveryConfigs
	if len(configs) != 1 {
		t.Fatalf("peers: got %d ways of discovery, want files alone", len(configs))
	}
	if got, want := configs[0].(*file.SDConfig).Files[0], "/data/peers/*.json"; got != want {
		t.Errorf("files: got %s, want %s", got, want)
	}
	want := []string{
		"ipfs", "kubernetes-apiservers", "kubernetes-cadvisor", "kubernetes-nodes", "kubernetes-pods",
		"kubernetes-resource", "kubernetes-services", "peers",
	}
	for _, c := range []*scrape.Cluster{{}, {ThroughAPIServer: true}} {
		if diff := cmp.Diff(want, names(complete(t, "", scrape.Defaults{Cluster: c}))); diff != "" {
			t.Errorf("%+v (-want +got)\n%s", c, diff)
		}
	}
}

func TestUsersJobsAndLimitsWin(t *testing.T) {
	jobs := complete(t, `
global: {sample_limit: 7}
scrape_configs:
  - {job_name: peers, metrics_path: /mine}
  - {job_name: other, body_size_limit: 1MB, label_limit: 3}
`, scrape.Defaults{})
	if got := jobs["peers"].MetricsPath; got != "/mine" {
		t.Errorf("peers: got path %s, want the user's", got)
	}
	o := jobs["other"]
	if o.SampleLimit != 7 || o.BodySizeLimit != 1<<20 || o.LabelLimit != 3 {
		t.Errorf("limits: got %d %d %d, want the user's", o.SampleLimit, o.BodySizeLimit, o.LabelLimit)
	}
	if jobs["ipfs"].SampleLimit != 7 || o.LabelValueLengthLimit == 0 || jobs["ipfs"].BodySizeLimit == 0 {
		t.Errorf("limits: got %d, %d and %d, want the global one and the defaults", jobs["ipfs"].SampleLimit,
			o.LabelValueLengthLimit, jobs["ipfs"].BodySizeLimit)
	}
}

// TestPrintedDefaultsCanBeLoaded: what check prints is a configuration, and the same jobs.
func TestPrintedDefaultsCanBeLoaded(t *testing.T) {
	for _, d := range []scrape.Defaults{{}, {Cluster: &scrape.Cluster{}}, {Cluster: &scrape.Cluster{ThroughAPIServer: true}}} {
		text, err := scrape.DefaultJobs(d)
		if err != nil {
			t.Fatal(err)
		}
		want, got := complete(t, "", d), complete(t, text, d)
		if diff := cmp.Diff(names(want), names(got)); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
		for name := range want {
			if w, g := len(want[name].ServiceDiscoveryConfigs), len(got[name].ServiceDiscoveryConfigs); w != g {
				t.Errorf("%s: got %d ways of discovery, want %d", name, g, w)
			}
		}
	}
}

const meta = "__meta_kubernetes_"

// TestRelabelling says for each default job which targets it takes and what it calls them.
func TestRelabelling(t *testing.T) {
	pod := func(more ...string) map[string]string {
		m := map[string]string{
			meta + "namespace": "ns", meta + "pod_name": "p-1", meta + "pod_ip": "10.0.0.9", meta + "pod_node_name": "edge-1",
			meta + "pod_phase": "Running", "__address__": "10.0.0.9:8080", meta + "pod_container_port_number": "8080",
			meta + "pod_container_name": "c",
		}
		for i := 0; i < len(more); i += 2 {
			if m[more[i]] = more[i+1]; more[i+1] == "" {
				delete(m, more[i])
			}
		}
		return m
	}
	scraped := []string{meta + "pod_annotation_prometheus_io_scrape", "true"}
	peer := []string{meta + "pod_label_periplus_io_peer", "true", meta + "pod_labelpresent_periplus_io_peer", "true"}
	ipfs := []string{meta + "pod_label_periplus_io_ipfs", "x", meta + "pod_labelpresent_periplus_io_ipfs", "true"}
	with := func(a []string, b ...string) []string { return append(slices.Clone(a), b...) }
	cases := []struct {
		job, name string
		in        map[string]string
		want      string // URL and labels; empty means dropped
	}{
		{"kubernetes-pods", "plain", pod(), ""},
		{
			"kubernetes-pods", "annotated", pod(scraped...),
			`http://10.0.0.9:8080/metrics {container="c", instance="10.0.0.9:8080", job="kubernetes-pods", namespace="ns", node="edge-1", pod="p-1"}`,
		},
		{
			"kubernetes-pods", "port, path and scheme", pod(with(scraped, meta+"pod_annotation_prometheus_io_port", "99",
				meta+"pod_annotation_prometheus_io_path", "/m", meta+"pod_annotation_prometheus_io_scheme", "https")...),
			`https://10.0.0.9:99/m {container="c", instance="10.0.0.9:99", job="kubernetes-pods", namespace="ns", node="edge-1", pod="p-1"}`,
		},
		{
			"kubernetes-pods", "IPv6", pod(with(scraped, meta+"pod_ip", "fd00::9", meta+"pod_annotation_prometheus_io_port", "99")...),
			`http://[fd00::9]:99/metrics {container="c", instance="[fd00::9]:99", job="kubernetes-pods", namespace="ns", node="edge-1", pod="p-1"}`,
		},
		{"kubernetes-pods", "ended", pod(with(scraped, meta+"pod_phase", "Succeeded")...), ""},
		{"kubernetes-pods", "a peer", pod(with(scraped, peer...)...), ""},
		{"kubernetes-pods", "an IPFS daemon", pod(with(scraped, ipfs...)...), ""},
		{
			"peers", "named by its pod", pod(with(peer, meta+"pod_container_port_name", "metrics")...),
			`http://10.0.0.9:8080/metrics {instance="10.0.0.9:8080", job="peers", namespace="ns", node="edge-1", peer="p-1", pod="p-1"}`,
		},
		{
			"peers", "named by its label", pod(with(peer, meta+"pod_label_periplus_io_peer", "alice", meta+"pod_annotation_prometheus_io_port", "7")...),
			`http://10.0.0.9:7/metrics {instance="10.0.0.9:7", job="peers", namespace="ns", node="edge-1", peer="alice", pod="p-1"}`,
		},
		{"peers", "another port of a peer", pod(with(peer, meta+"pod_container_port_name", "gossip")...), ""},
		{"peers", "not a peer", pod(meta+"pod_container_port_name", "metrics"), ""},
		{
			"peers", "from a file",
			map[string]string{"__address__": "127.0.0.1:9", "group": "g"},
			`http://127.0.0.1:9/metrics {group="g", instance="127.0.0.1:9", job="peers"}`,
		},
		{
			"ipfs", "labelled, without ports", pod(with(ipfs, meta+"pod_container_port_number", "", "__address__", "10.0.0.9")...),
			`http://10.0.0.9:5001/debug/metrics/prometheus {instance="10.0.0.9:5001", job="ipfs", namespace="ns", node="edge-1", pod="p-1"}`,
		},
		{
			"ipfs", "by the port's name", pod(meta+"pod_container_port_name", "ipfs-api"),
			`http://10.0.0.9:8080/debug/metrics/prometheus {instance="10.0.0.9:8080", job="ipfs", namespace="ns", node="edge-1", pod="p-1"}`,
		},
		{"ipfs", "another port", pod(with(ipfs, meta+"pod_container_port_name", "swarm")...), ""},
		{
			"ipfs", "from a file",
			map[string]string{"__address__": "127.0.0.1:5001"},
			`http://127.0.0.1:5001/debug/metrics/prometheus {instance="127.0.0.1:5001", job="ipfs"}`,
		},
		{
			"kubernetes-cadvisor", "a node",
			map[string]string{"__address__": "10.0.0.7:10250", meta + "node_name": "edge-1", "instance": "edge-1"},
			`https://10.0.0.7:10250/metrics/cadvisor {instance="edge-1", job="kubernetes-cadvisor", node="edge-1"}`,
		},
		{
			"kubernetes-services", "a service",
			map[string]string{
				"__address__": "10.0.0.9:80", meta + "service_annotation_prometheus_io_scrape": "true", meta + "service_name": "s",
				meta + "service_annotation_prometheus_io_port": "81", meta + "namespace": "ns",
			},
			`http://10.0.0.9:81/metrics {instance="10.0.0.9:81", job="kubernetes-services", namespace="ns", service="s"}`,
		},
	}
	jobs := complete(t, "", scrape.Defaults{Cluster: &scrape.Cluster{}})
	for _, c := range cases {
		t.Run(c.job+" "+c.name, func(t *testing.T) {
			if got := target(t, jobs[c.job], c.in); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	t.Run("through the API server", func(t *testing.T) {
		jobs := complete(t, "", scrape.Defaults{Cluster: &scrape.Cluster{ThroughAPIServer: true}})
		in := map[string]string{"__address__": "10.0.0.7:10250", meta + "node_name": "edge-1", "instance": "edge-1"}
		got := target(t, jobs["kubernetes-resource"], in)
		want := `https://kubernetes.default.svc:443/api/v1/nodes/edge-1/proxy/metrics/resource {instance="edge-1", job="kubernetes-resource", node="edge-1"}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// target makes a target of discovered labels the way the scrape manager does.
func target(t *testing.T, j *promconfig.ScrapeConfig, in map[string]string) string {
	t.Helper()
	lb := labels.NewBuilder(labels.EmptyLabels())
	set := model.LabelSet{}
	for k, v := range in {
		set[model.LabelName(k)] = model.LabelValue(v)
	}
	ls, err := promscrape.PopulateLabels(lb, j, set, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ls.IsEmpty() {
		return ""
	}
	tg := promscrape.NewTarget(ls, j, set, nil)
	return tg.URL().String() + " " + tg.Labels(labels.NewBuilder(labels.EmptyLabels())).String()
}

func TestKubeconfigGivesTheCredentials(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kubeconfig")
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	text := strings.NewReplacer("CA", b64("ca"), "CERT", b64("cert"), "KEY", b64("key")).Replace(`
apiVersion: v1
kind: Config
current-context: here
contexts:
  - {name: elsewhere, context: {cluster: b, user: b}}
  - {name: here, context: {cluster: a, user: a}}
clusters:
  - {name: a, cluster: {server: "https://api.example:6443/prefix", certificate-authority-data: CA}}
users:
  - {name: a, user: {client-certificate-data: CERT, client-key-data: KEY, tokenFile: token}}
`)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	jobs := complete(t, "", scrape.Defaults{Cluster: &scrape.Cluster{Kubeconfig: path, ThroughAPIServer: true}})
	nodes := jobs["kubernetes-nodes"]
	if got := nodes.ServiceDiscoveryConfigs[0].(*kubernetes.SDConfig).KubeConfig; got != path {
		t.Errorf("discovery: got kubeconfig %s, want %s", got, path)
	}
	h := nodes.HTTPClientConfig
	if h.TLSConfig.CA != "ca" || h.TLSConfig.Cert != "cert" || string(h.TLSConfig.Key) != "key" || h.TLSConfig.CAFile != "" {
		t.Errorf("TLS: got %+v, want what the kubeconfig has", h.TLSConfig)
	}
	if h.Authorization == nil || h.Authorization.CredentialsFile != filepath.Join(dir, "token") {
		t.Errorf("authorization: got %+v, want the token file", h.Authorization)
	}
	in := map[string]string{"__address__": "10.0.0.7:10250", meta + "node_name": "n", "instance": "n"}
	if got, want := target(t, nodes, in), `https://api.example:6443/prefix/api/v1/nodes/n/proxy/metrics {instance="n", job="kubernetes-nodes", node="n"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if jobs["peers"].HTTPClientConfig.Authorization != nil {
		t.Error("the peers get the cluster's credentials")
	}
	direct := complete(t, "", scrape.Defaults{Cluster: &scrape.Cluster{Kubeconfig: path}})["kubernetes-nodes"].HTTPClientConfig
	if !direct.TLSConfig.InsecureSkipVerify || direct.TLSConfig.Cert != "cert" {
		t.Errorf("on the nodes: got %+v, want the client certificate and no check of the kubelet's", direct.TLSConfig)
	}
}

// TestCredentialsFromAProgram: clients of the API server can use them, so a start must go on; scraping cannot.
func TestCredentialsFromAProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n" +
		"clusters: [{name: c, cluster: {server: \"https://a\"}}]\nusers: [{name: u, user: {exec: {command: get-token}}}]"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := scrape.Defaults{Cluster: &scrape.Cluster{Kubeconfig: path}, Log: slog.New(slog.DiscardHandler)}
	want := []string{"ipfs", "kubernetes-pods", "kubernetes-services", "peers"}
	if diff := cmp.Diff(want, names(complete(t, "", d))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAnotherContextReachesDiscoveryToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := "current-context: x\ncontexts: [{name: y, context: {cluster: c, user: u}}]\n" +
		"clusters: [{name: c, cluster: {server: \"https://a\"}}]\nusers: [{name: u, user: {token: t}}]"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := scrape.Defaults{Cluster: &scrape.Cluster{Kubeconfig: path, Context: "y"}}
	sd := complete(t, "", d)["kubernetes-pods"].ServiceDiscoveryConfigs[0].(*kubernetes.SDConfig)
	if sd.KubeConfig != "" || sd.APIServer.String() != "https://a:443" || sd.HTTPClientConfig.Authorization.Credentials != "t" {
		t.Errorf("got %+v, want the server and token of y", sd)
	}
}

func TestUnusableKubeconfigIsAnError(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"missing": "", "garbage": "\t{", "no context": "current-context: x", "no cluster": "current-context: x\ncontexts: [{name: x}]",
		"bad data": "current-context: x\ncontexts: [{name: x, context: {cluster: c}}]\nclusters: [{name: c, cluster: {server: \"https://a\", certificate-authority-data: \"!\"}}]",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			if text != "" {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cfg, err := promconfig.Load("", slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			err = scrape.Complete(cfg, scrape.Defaults{Cluster: &scrape.Cluster{Kubeconfig: path}})
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error that names the file", err)
			}
		})
	}
}
