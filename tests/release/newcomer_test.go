package release

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	defaultmodel "github.com/longrope/longrope/evals/default"
)

// newcomer is what somebody types who has a release and a Debian system, and no root's rights. Each
// part begins with "== NAME".
const newcomer = `set -eu
cd /home/newcomer
sh /release/install.sh --prefix "$HOME/my ollama"
PATH="$HOME/my ollama/bin:$PATH"
serve() {
	ollama serve >serve.log 2>&1 &
	for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		if ollama list >/dev/null 2>&1; then break; fi
		sleep 1
	done
}
ask() { ollama run "$1" "The sea is" </dev/null 2>/dev/null; }
serve
ollama --version
printf 'FROM /release/model.gguf\nPARAMETER num_predict 16\nPARAMETER temperature 0\n' >Modelfile
ollama create tiny -f Modelfile
ollama longrope convert tiny --method yarn --target $TARGETS --name tiny-long
ollama show tiny-long
echo "== answer"
ask tiny-long
ollama ps
echo "== doctor"
ollama longrope doctor
echo "== another ollama first"
mkdir other
printf '#!/bin/sh\necho "Warning: client version is 0.17.4"\n' >other/ollama
chmod +x other/ollama
PATH="$HOME/other:$PATH" "$HOME/my ollama/bin/ollama" longrope doctor
rm -r other
echo "== the original is removed"
ollama rm tiny
ask tiny-long
ollama stop tiny-long
ask tiny-long
echo "== a store that cannot be written"
ollama cp tiny-long tiny
chmod -R a-w "$HOME/my ollama/models"
if ollama longrope convert tiny --method ntk --target $TARGETS --name tiny-ntk; then exit 1; fi
ask tiny-long
chmod -R u+w "$HOME/my ollama/models"
echo "== removed while it is loaded"
ollama rm tiny-long tiny
if ollama run tiny-long hello </dev/null; then exit 1; fi
echo "== over an older one, with the server running"
sh /release/install.sh --prefix "$HOME/my ollama"
ollama longrope doctor
kill $!
wait $! || true
rm serve.log Modelfile
echo "== uninstall"
sh /release/install.sh --prefix "$HOME/my ollama" --uninstall --purge
`

// smollm2 is a real model, which make smollm2 gets: trained for 8,192 tokens.
const smollm2 = "../../build/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

// TestNewcomer: install, serve, convert, run and uninstall as a user without rights in a bare
// Debian root, with no file left at the end; and accidents on the way.
func TestNewcomer(t *testing.T) {
	from := dist(t)
	r := newRoot(t)
	r.take(t, from, "release")
	targets, lengths := "16k,32k", "16k, 32k"
	model, err := os.ReadFile(smollm2)
	if err != nil {
		t.Log("no SmolLM2: run make smollm2; the default model takes its place")
		model, targets, lengths = defaultmodel.Model, "1k,2k", "1k, 2k"
	}
	gguf := filepath.Join(r.dir, "release/model.gguf")
	require.NoError(t, os.WriteFile(gguf, model, 0o644))
	out, err := r.command("root", "useradd --create-home newcomer").CombinedOutput()
	require.NoError(t, err, "%s", out)

	before := r.files(t)
	out, err = r.command("newcomer", newcomer, "HOME=/home/newcomer", "TARGETS="+targets).
		CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)
	parts := map[string]string{}
	for part := range strings.SplitSeq("install\n"+string(out), "== ") {
		name, text, _ := strings.Cut(part, "\n")
		parts[name] = text
	}
	for name, says := range map[string][]string{
		"install": {
			"installed ", "ollama version is ", "longrope version is ",
			"shares the weights of tiny", "the longest rung that fits in memory",
		},
		"answer": {"100% CPU", "(fits)"},
		"doctor": {
			"ok     PATH        ollama is this program", "ok     CPU", "takes rows",
			"ok     server", "tiny-long:latest: a ladder as a layer, for " + lengths,
		},
		"another ollama first": {
			"note   PATH        another ollama comes before this program",
			"other/ollama is ollama 0.17.4, without longrope",
		},
		"a store that cannot be written":             {"Error: cannot write to the folder of", "denied"},
		"removed while it is loaded":                 {"deleted 'tiny-long'"},
		"over an older one, with the server running": {"installed ", "ok     server"},
		"uninstall": {"removed from /home/newcomer/my ollama"},
	} {
		for _, text := range says {
			assert.Contains(t, parts[name], text, name)
		}
	}
	answer, _, _ := strings.Cut(strings.TrimLeft(parts["answer"], "\n"), "\n\n")
	require.Regexp(t, `[A-Za-z]{2,}.* [a-z]{2,}`, answer, "no answer")
	assert.Equal(t, 2, strings.Count(parts["the original is removed"], answer),
		"the weights that a ladder shares stay, loaded or not")
	assert.Contains(t, parts["a store that cannot be written"], answer)
	assert.Equal(t, before, r.files(t), "files are left, or lost")
}
