// Package deploy holds the checks of the files that Ringfence is deployed with, as far as they can be made without a
// container engine: none of these files is run by a test but the scripts.
package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"ringfence/internal/config"
)

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// instructions are a Dockerfile's, each on one line, without comments.
func instructions(t *testing.T) (list []string) {
	t.Helper()
	text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(read(t, "Dockerfile"), "")
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// The image is small, pinned, without root, and holds nothing that the build was not told to copy.
func TestDockerfile(t *testing.T) {
	var user, entry, static bool
	stages := 0
	for _, line := range instructions(t) {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "FROM":
			stages++
			image := strings.Fields(rest)[0]
			user, entry = false, false // the last stage counts
			if image != "scratch" && !regexp.MustCompile(`:[0-9]+\.[0-9]+(\.[0-9]+)?(-[a-z0-9]+)?(@sha256:[0-9a-f]{64})?$`).MatchString(image) {
				t.Errorf("%s is not pinned to a version", image)
			}
		case "ADD":
			t.Errorf("ADD fetches and unpacks: %s", line)
		case "COPY":
			if fields := strings.Fields(rest); slices.Contains(fields[:len(fields)-1], ".") {
				t.Errorf("copies everything: %s", line)
			}
		case "RUN":
			static = static || strings.Contains(rest, "go build")
			if regexp.MustCompile(`\b(curl|wget|sudo|apt-get)\b`).MatchString(rest) {
				t.Errorf("fetches what no checksum holds: %s", line)
			}
		case "USER":
			user = regexp.MustCompile(`^[1-9][0-9]*(:[1-9][0-9]*)?$`).MatchString(rest) // a number: the orchestrator can see that it is not root
		case "ENTRYPOINT", "CMD":
			entry = entry || word == "ENTRYPOINT"
			if !strings.HasPrefix(rest, "[") {
				t.Errorf("a shell would stand before the program and keep SIGTERM to itself: %s", line)
			}
		case "ENV", "ARG":
			if regexp.MustCompile(`(?i)(secret|password|token|_key)`).MatchString(rest) {
				t.Errorf("a secret in the image: %s", line)
			}
		case "WORKDIR", "EXPOSE", "STOPSIGNAL":
		default:
			t.Errorf("what is %s for? %s", word, line)
		}
	}
	if !user || !entry || !static || stages != 2 || !strings.Contains(read(t, "Dockerfile"), "CGO_ENABLED=0") {
		t.Errorf("%d stages, user %t, entry point %t, static build %t", stages, user, entry, static)
	}
	// What is copied is there, and what the program is made of is copied.
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "ringfence/cmd/ringfence").Output()
	if err != nil {
		t.Fatal(err)
	}
	ignore := read(t, "Dockerfile.dockerignore")
	for line := range strings.Lines(string(out)) {
		if folder, ours := strings.CutPrefix(strings.TrimSpace(line), "ringfence/"); ours {
			folder, _, _ = strings.Cut(folder, "/")
			if !slices.Contains(instructions(t), "COPY "+folder+" "+folder) || !strings.Contains(ignore, "\n!"+folder+"\n") {
				t.Errorf("the program needs %s, and the image's build does not get it", folder)
			}
		}
	}
}

// The build's Go is the one that go.mod asks for, and the linker's variable is there. The drill runs what it builds.
func TestDockerfileBuildsThisProgram(t *testing.T) {
	want := regexp.MustCompile(`(?m)^go ([0-9]+\.[0-9]+)`).FindStringSubmatch(read(t, "../go.mod"))
	got := regexp.MustCompile(`FROM golang:([0-9]+\.[0-9]+)\.`).FindStringSubmatch(read(t, "Dockerfile"))
	if want == nil || got == nil || want[1] != got[1] {
		t.Errorf("go.mod wants %v, the image builds with %v", want, got)
	}
	set := regexp.MustCompile(`-X main\.(\w+)=`).FindStringSubmatch(read(t, "Dockerfile"))
	if set == nil || !strings.Contains(read(t, "../cmd/ringfence/app.go"), "\nvar "+set[1]+" = ") {
		t.Errorf("the linker has nothing to set: %v", set)
	}
}

func TestCompose(t *testing.T) {
	var file struct {
		Services map[string]struct {
			Image       string
			Environment map[string]string
			EnvFile     []string `yaml:"env_file"`
			Ports       []string
			Profiles    []string
			Volumes     []string
			Networks    []string
			ReadOnly    bool     `yaml:"read_only"`
			CapDrop     []string `yaml:"cap_drop"`
			SecurityOpt []string `yaml:"security_opt"`
			Healthcheck *struct{ Test []string }
			DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
			Grace       string                                `yaml:"stop_grace_period"`
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, "compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	app, db := file.Services["app"], file.Services["db"]
	if len(app.Ports) == 0 || !app.ReadOnly || !slices.Contains(app.CapDrop, "ALL") || !slices.Contains(app.SecurityOpt, "no-new-privileges:true") ||
		app.DependsOn["db"].Condition != "service_healthy" || app.Grace != "60s" || !slices.Contains(app.EnvFile, "ringfence.env") {
		t.Errorf("the program: %+v", app)
	}
	if len(db.Ports) > 0 || db.Healthcheck == nil || !regexp.MustCompile(`^postgres:1[5-9]\.[0-9]+`).MatchString(db.Image) || db.Environment["POSTGRES_PASSWORD"] != "" {
		t.Errorf("the database: %+v", db)
	}
	if app.Environment["RINGFENCE_ADDR"] != "0.0.0.0:8080" { // ringfence.env is the unit's too, and may name loopback
		t.Errorf("the program listens where nobody reaches it: %v", app.Environment)
	}
	// Backups are made with the server's own programs, by hand alone, on the network that only the database is on.
	tools := file.Services["tools"]
	if tools.Image != db.Image || !slices.Equal(tools.Profiles, []string{"tools"}) || !slices.Equal(tools.Networks, []string{"inside"}) || len(tools.Ports) > 0 {
		t.Errorf("the tools: %+v", tools)
	}
	for _, script := range []string{"backup.sh", "restore.sh", "postgres.sh"} {
		if !slices.Contains(tools.Volumes, "./"+script+":/deploy/"+script+":ro") {
			t.Errorf("the tools have no %s: %v", script, tools.Volumes)
		}
	}
	for _, p := range app.Ports {
		if !strings.HasPrefix(p, "127.0.0.1:") {
			t.Errorf("%s is open to the world without TLS", p)
		}
	}
}

// The unit says what it should, and systemd, where it is, finds nothing wrong with it.
func TestUnit(t *testing.T) {
	unit := read(t, "ringfence.service")
	for _, line := range []string{
		"ExecStart=/usr/local/bin/ringfence serve", "EnvironmentFile=/etc/ringfence/ringfence.env", "DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict",
		"ProtectHome=yes", "PrivateDevices=yes", "PrivateTmp=yes", "CapabilityBoundingSet=", "RestrictNamespaces=yes", "SystemCallFilter=@system-service",
		"KillSignal=SIGTERM", "TimeoutStopSec=60s", "Restart=on-failure", "UMask=0077",
	} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("the unit has no %s", line)
		}
	}
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd is not on this machine: it was not asked")
		return
	}
	path := filepath.Join(t.TempDir(), "ringfence.service")
	if err := os.WriteFile(path, []byte(strings.Replace(unit, "/usr/local/bin/ringfence", "/bin/true", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", path).CombinedOutput(); err != nil || strings.Contains(string(out), "ringfence.service:") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// The example and the README name every setting there is, and no other; the example does not start anything by itself.
func TestEverySettingIsDocumented(t *testing.T) {
	c, err := config.Load(func(name string) string {
		return map[string]string{"RINGFENCE_ENV": "development", "RINGFENCE_DATA_DIR": t.TempDir()}[name]
	})
	if err != nil {
		t.Fatal(err)
	}
	example, readme := read(t, "ringfence.env.example"), read(t, "../README.md")
	named := regexp.MustCompile(`(?m)^#?([A-Z][A-Z0-9_]+)=`)
	assigned := map[string]bool{}
	for _, m := range named.FindAllStringSubmatch(example, -1) {
		if assigned[m[1]] {
			t.Errorf("%s stands twice in the example", m[1])
		}
		assigned[m[1]] = true
	}
	for _, s := range c.Masked() {
		if !assigned[s.Name] && !strings.Contains(example, s.Name) {
			t.Errorf("ringfence.env.example does not name %s", s.Name)
		}
		delete(assigned, s.Name)
		if !strings.Contains(readme, "`"+s.Name+"`") && s.Name != "RINGFENCE_TOP_UP_MAX_PENCE" { // which stands there as …_MAX_PENCE
			t.Errorf("README.md does not name %s", s.Name)
		}
	}
	for name := range assigned {
		t.Errorf("ringfence.env.example sets %s, which is no setting", name)
	}
	_, err = config.Load(func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindStringSubmatch(example)
		if m == nil {
			return ""
		}
		return m[1]
	})
	if err == nil || !strings.Contains(err.Error(), "RINGFENCE_ENCRYPTION_KEYSET") {
		t.Errorf("the example as it is: %v, want it refused for what is to be filled in", err)
	}
}

// What the Makefile promises to make it can: make itself would say that there is nothing to be done.
func TestEveryTargetHasItsRule(t *testing.T) {
	makefile := read(t, "../Makefile")
	_, targets, _ := strings.Cut(makefile, ".PHONY: ")
	targets, _, _ = strings.Cut(targets, "\n")
	for target := range strings.FieldsSeq(targets) {
		if n := len(regexp.MustCompile(`(?m)^`+target+`:`).FindAllString(makefile, -1)); n != 1 {
			t.Errorf("%s has %d rules", target, n)
		}
	}
}
