// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	commonconfig "github.com/prometheus/common/config"
	_ "github.com/prometheus/prometheus/discovery/file" // file_sd_configs

	"github.com/periplus-io/periplus/internal/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// shop is a section as a room would have it.
type shop struct {
	Name     string              `yaml:"name"`
	Opens    time.Duration       `yaml:"opens"`
	Shelves  []shelf             `yaml:"shelves"`
	Password commonconfig.Secret `yaml:"password,omitempty"`
	Ledger   string              `yaml:"ledger_file,omitempty"`
	dir      string
}

type shelf struct {
	Depth int `yaml:"depth"`
}

func (s *shop) SetDirectory(dir string) { s.dir = dir }

func (s *shop) Validate() error {
	var errs []error
	if s.Opens < 0 {
		errs = append(errs, errors.New("opens: must not be negative"))
	}
	for i, sh := range s.Shelves {
		if sh.Depth > 10 {
			errs = append(errs, fmt.Errorf("shelves[%d].depth: must be at most 10", i))
		}
	}
	return errors.Join(errs...)
}

type label string

func (label) Validate() error { return nil }

func options(path string) (config.Options, *shop, *label) {
	s, c := &shop{Name: "corner", Opens: 8 * time.Hour}, label("")
	env := map[string]string{
		"TOKEN": "hunter2-and-more", "EMPTY": "", "INJECT": "x\"\n  evil: true\nother: [",
		"LIMIT": "1234", "HOST": "node-7", "DOLLAR": "a$HOST", "JOBS": "- job_name: a",
	}
	return config.Options{
		Path:     path,
		Sections: []config.Section{config.Bind("shop", s), config.Bind("cluster", &c)},
		Getenv: func(name string) (string, bool) {
			v, ok := env[name]
			return v, ok
		},
		CheckRules: func(path string) []error {
			b, err := os.ReadFile(path)
			if err != nil {
				return []error{err}
			}
			if i := strings.Index(string(b), "BAD"); i >= 0 {
				return []error{fmt.Errorf("%d:5: bad rule", strings.Count(string(b[:i]), "\n")+1)}
			}
			return nil
		},
		Log: slog.New(slog.DiscardHandler),
	}, s, &c
}

// TestFaults compares what is said about each file of testdata/faults with the golden text beside it.
func TestFaults(t *testing.T) {
	t.Chdir("testdata/faults")
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			o, _, _ := options(file)
			_, err := config.Load(o)
			if _, ok := errors.AsType[config.Faults](err); !ok {
				t.Fatalf("got %v, want faults", err)
			}
			got := err.Error() + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestNoFileGivesDefaults(t *testing.T) {
	o, s, _ := options("")
	cfg, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(cfg.Prometheus.GlobalConfig.ScrapeInterval); got != time.Minute {
		t.Errorf("scrape interval: got %s, want 1m", got)
	}
	if s.Name != "corner" || s.Opens != 8*time.Hour {
		t.Errorf("section: got %+v, want its defaults", s)
	}
}

func TestEnvironmentIsContentNeverStructure(t *testing.T) {
	o, s, c := options("periplus.yaml")
	cfg, err := config.Parse(o.Path, []byte(`
cluster: ${INJECT}
shop:
  name: "${HOST}-${EMPTY:-none}-$${HOST}-${NOT_SET:-x y: z}"
  shelves: [{depth: 3}]
global:
  sample_limit: ${LIMIT}
  external_labels:
    host: ${HOST}
    dollar: ${DOLLAR}
    text: $${HOST}
scrape_configs:
  - job_name: a
    relabel_configs:
      - {source_labels: [x], regex: "(.*):(?P<port>.*)", replacement: "${1}/${port}/${HOST}", target_label: y}
    basic_auth:
      username: u
      password: |
        ${INJECT}
    static_configs: [{targets: ["${HOST}:1"]}]
`), o)
	if err != nil {
		t.Fatal(err)
	}
	p := cfg.Prometheus
	checks := []struct{ what, got, want string }{
		{"cluster", string(*c), "x\"\n  evil: true\nother: ["},
		{"name", s.Name, "node-7-none-${HOST}-x y: z"},
		{"limit", fmt.Sprint(p.GlobalConfig.SampleLimit), "1234"},
		{"host", p.GlobalConfig.ExternalLabels.Get("host"), "node-7"},
		{"dollar", p.GlobalConfig.ExternalLabels.Get("dollar"), "a$HOST"},
		{"text", p.GlobalConfig.ExternalLabels.Get("text"), "${HOST}"},
		{"replacement", p.ScrapeConfigs[0].RelabelConfigs[0].Replacement, "${1}/${port}/node-7"},
		{"password", string(p.ScrapeConfigs[0].HTTPClientConfig.BasicAuth.Password), "x\"\n  evil: true\nother: [\n"},
	}
	for _, c := range checks {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
}

func TestPrintShowsNoSecret(t *testing.T) {
	o, _, _ := options("periplus.yaml")
	cfg, err := config.Parse(o.Path, []byte(`
shop: {password: literal-secret-1, name: "${TOKEN}"}
scrape_configs:
  - job_name: a
    params: {token: [literal-secret-2], match: [up]}
    authorization: {credentials: literal-secret-3}
    static_configs: [{targets: ["h:1"], labels: {seen: "x-${TOKEN}-y"}}]
remote_write:
  - url: https://me:literal-secret-4@example.org/push?api_key=literal-secret-5&x=1
    headers: {X-Scope: literal-secret-6}
  - url: https://me:${TOKEN}@example.org/push?tenant=${TOKEN}
    name: two
  - url: https://example.org/push
    name: three
    oauth2: {client_id: me, client_secret: "${TOKEN}", token_url: "https://u:literal-secret-7@example.org"}
`), o)
	if err != nil {
		t.Fatal(err)
	}
	got := cfg.String()
	for _, secret := range []string{"literal-secret", "hunter2"} {
		if strings.Contains(got, secret) {
			t.Errorf("%q is printed:\n%s", secret, got)
		}
	}
	for _, want := range []string{"job_name: a", "match:", "x-${TOKEN}-y", "name: ${TOKEN}", "scrape_interval: 1m"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not printed:\n%s", want, got)
		}
	}
}

func TestScrapeConfigFilesArePutIn(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("token", "secret")
	write("more.yaml", "scrape_configs:\n  - job_name: ${HOST}\n    authorization: {credentials_file: token}\n")
	o, s, _ := options(write("periplus.yaml", `
scrape_configs: [{job_name: first}]
scrape_config_files: ["more*.yaml"]
global: {scrape_interval: 7s}
`))
	cfg, err := config.Load(o)
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := cfg.Prometheus.GetScrapeConfigs()
	if err != nil {
		t.Fatal(err)
	}
	if len(jobs) != 2 || jobs[1].JobName != "node-7" || time.Duration(jobs[1].ScrapeInterval) != 7*time.Second {
		t.Errorf("got %+v, want the second job from the file, every 7s", jobs)
	}
	if got, want := jobs[1].HTTPClientConfig.Authorization.CredentialsFile, filepath.Join(dir, "token"); got != want {
		t.Errorf("credentials file: got %s, want %s", got, want)
	}
	if s.dir != dir {
		t.Errorf("directory: got %s, want %s", s.dir, dir)
	}
}

func TestKeys(t *testing.T) {
	o, _, _ := options("")
	want := []string{
		"cluster", "shop", "shop.ledger_file", "shop.name", "shop.opens", "shop.password", "shop.shelves",
		"shop.shelves[].depth",
	}
	if diff := cmp.Diff(want, config.Keys(o.Sections...)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/faults/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, _, _ := options(filepath.Join(t.TempDir(), "f.yaml"))
		cfg, err := config.Parse(o.Path, data, o)
		if err == nil {
			_ = cfg.String()
			return
		}
		var faults config.Faults
		if !errors.As(err, &faults) || len(faults) == 0 {
			t.Errorf("got %v, want faults", err)
		}
	})
}
