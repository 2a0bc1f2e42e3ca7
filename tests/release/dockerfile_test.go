package release

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// image is a root that the steps of a Dockerfile were run in, with the settings for its process.
type image struct {
	root
	context string // folder of the files that COPY takes
	vars    map[string]string
	env     []string
	user    string
	dir     string
	start   []string // ENTRYPOINT and CMD
}

// take copies a folder into the root.
func (r root) take(t *testing.T, from, to string) {
	t.Helper()
	at := filepath.Join(r.dir, to)
	require.NoError(t, os.MkdirAll(at, 0o755))
	out, err := exec.Command("cp", "-aL", from+"/.", at).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// instructions are those of a Dockerfile, with continued lines joined.
func instructions(text string) [][2]string {
	var all [][2]string
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		all = append(all, [2]string{name, strings.TrimSpace(rest)})
	}
	return all
}

// step runs one instruction. One that the test does not know is an error: it would not be tested.
func (i *image) step(t *testing.T, name, rest string) {
	t.Helper()
	switch name {
	case "FROM":
		assert.Equal(t, "debian:"+suite+"-slim", rest, "the root of this test is another")
	case "ARG":
		key, value, _ := strings.Cut(rest, "=")
		i.vars[key] = value
	case "ENV":
		i.env = append(i.env, rest)
	case "COPY":
		words := strings.Fields(os.Expand(rest, func(key string) string { return i.vars[key] }))
		to := filepath.Join(i.root.dir, words[len(words)-1])
		require.NoError(t, os.MkdirAll(to, 0o755))
		for _, pattern := range words[:len(words)-1] {
			found, err := filepath.Glob(filepath.Join(i.context, pattern))
			require.NoError(t, err)
			require.NotEmpty(t, found, "COPY %s: no such file", pattern)
			out, err := exec.Command("cp", append(found, to)...).CombinedOutput()
			require.NoError(t, err, "%s", out)
		}
	case "RUN":
		out, err := i.command("root", rest, i.env...).CombinedOutput()
		require.NoError(t, err, "RUN %s\n%s", rest, out)
	case "USER":
		i.user = rest
	case "WORKDIR":
		i.dir = rest
	case "ENTRYPOINT", "CMD":
		var words []string
		require.NoError(t, json.Unmarshal([]byte(rest), &words), "%s: not in JSON", name)
		i.start = append(i.start, words...)
	case "EXPOSE":
		assert.Equal(t, "11434", rest)
	default:
		t.Fatalf("the test knows no %s", name)
	}
}

// TestDockerfile runs the steps of the Dockerfile in a bare root, and starts its process: it is not
// root's, it answers, and the release is not in the image twice.
func TestDockerfile(t *testing.T) {
	from := dist(t)
	text, err := os.ReadFile(filepath.Join(from, "Dockerfile"))
	require.NoError(t, err)
	i := &image{root: newRoot(t), context: from, vars: map[string]string{}, user: "root"}
	for _, s := range instructions(string(text)) {
		i.step(t, s[0], s[1])
	}
	require.NotEqual(t, "root", i.user)
	require.Equal(t, []string{"ollama", "serve"}, i.start)
	assert.NoDirExists(t, filepath.Join(i.root.dir, "release"))

	script := "cd " + i.dir + " && " + strings.Join(i.start, " ") + ` >/dev/null 2>&1 &
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	if ollama list >/dev/null 2>&1; then break; fi
	sleep 1
done
id -u
command -v ollama
ollama --version
ollama longrope doctor
`
	env := append([]string{"HOME=/home/" + i.user}, i.env...)
	out, err := i.command(i.user, script, env...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)
	for _, says := range []string{
		"1000\n/opt/ollama/bin/ollama\n", "ollama version is ", "longrope version is ",
		"ok     CPU", "ok     server",
	} {
		assert.Contains(t, string(out), says)
	}
}
