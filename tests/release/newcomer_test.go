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

// newcomer is what somebody types who has a release and a Debian system, and no root's rights.
const newcomer = `set -eu
cd /home/newcomer
sh /release/install.sh --prefix "$HOME/my ollama"
PATH="$HOME/my ollama/bin:$PATH"
ollama serve >serve.log 2>&1 &
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	if ollama list >/dev/null 2>&1; then break; fi
	sleep 1
done
ollama --version
printf 'FROM /release/model.gguf\nPARAMETER num_predict 16\n' >Modelfile
ollama create tiny -f Modelfile
ollama longrope convert tiny --method yarn --target 1k,2k --name tiny-2k
ollama show tiny-2k
echo "== answer"
ollama run tiny-2k "The sea is" </dev/null 2>/dev/null
echo "== doctor"
ollama longrope doctor
kill $!
wait $! || true
rm serve.log Modelfile
sh /release/install.sh --prefix "$HOME/my ollama" --uninstall --purge
`

// TestNewcomer: install, serve, convert, run and uninstall as a user without rights in a bare
// Debian root, with no file left at the end.
func TestNewcomer(t *testing.T) {
	from := dist(t)
	r := newRoot(t)
	r.take(t, from, "release")
	gguf := filepath.Join(r.dir, "release/model.gguf")
	require.NoError(t, os.WriteFile(gguf, defaultmodel.Model, 0o644))
	out, err := r.command("root", "useradd --create-home newcomer").CombinedOutput()
	require.NoError(t, err, "%s", out)

	before := r.files(t)
	out, err = r.command("newcomer", newcomer, "HOME=/home/newcomer").CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)
	for _, says := range []string{
		"installed ", "ollama version is ", "longrope version is ",
		"shares the weights of tiny", "1,024", "2,048",
		"ok     PATH        ollama is this program", "ok     CPU", "takes rows",
		"ok     server", "tiny-2k:latest: a ladder as a layer, for 1k, 2k",
		"removed from /home/newcomer/my ollama",
	} {
		assert.Contains(t, string(out), says)
	}
	_, answer, _ := strings.Cut(string(out), "== answer\n")
	answer, _, _ = strings.Cut(answer, "== doctor")
	assert.Regexp(t, `[A-Za-z]{2,} [a-z]{2,}`, answer, "no answer")
	assert.Equal(t, before, r.files(t), "files are left, or lost")
}
