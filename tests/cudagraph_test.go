package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/tests/strict"
)

// graphMain compares a RoPE node with what a captured graph knows of one, with the functions of
// ggml-cuda.cu: it prints a name for each difference that is not noticed.
const graphMain = `
#include <cstdio>
#include <cstdlib>

extern "C" void ggml_abort(const char *, int, const char *, ...) { abort(); }

int main() {
    char data[4];
    ggml_tensor x = {}, pos = {}, factors = {}, node = {};
    x.data = data; pos.data = data + 1; factors.data = data + 2; node.data = data + 3;
    node.op = GGML_OP_ROPE;
    node.src[0] = &x; node.src[1] = &pos; node.src[2] = &factors;

    ggml_tensor lost = node, rows = node, moved = node;
    lost.src[2] = nullptr;
    rows.op_params[15] = 1; // as ggml_rope_add_rows
    moved.src[1] = &x;

    const auto same = [](ggml_tensor captured, ggml_tensor now) {
        ggml_graph_node_properties properties = {};
        set_ggml_graph_node_properties(&captured, &properties);
        return ggml_graph_node_has_matching_properties(&now, &properties);
    };
    if (!same(node, node)) puts("no difference is one");
    if (!same(lost, lost)) puts("no factors are a difference");
    if (same(node, moved)) puts("another source");
    if (same(node, lost))  puts("a source that is gone");
    if (same(lost, node))  puts("a source that is new");
    if (same(node, rows))  puts("rows that are new");
    if (same(rows, node))  puts("rows that are gone");
}
`

// A CUDA graph is captured again when RoPE gets or loses its factors or its rows.
func TestCUDAGraphs(t *testing.T) {
	unnoticed := func(tree string) []string {
		ggml := filepath.Join(tree, "ml/backend/ggml/ggml")
		cut := func(file, from string) string {
			text, err := os.ReadFile(filepath.Join(ggml, "src/ggml-cuda", file))
			if err != nil {
				strict.Skipf(t, "no host (%v): run make host first", err)
			}
			whole := regexp.MustCompile(`(?ms)^` + from + `\b.*?\n\};?\n`)
			found := whole.FindAllString(string(text), -1)
			require.Len(t, found, 1, "%s has one %s", file, from)
			return found[0]
		}
		source := "#include \"ggml.h\"\n#include \"ggml-impl.h\"\n#include <cstring>\n" +
			cut("common.cuh", "struct ggml_graph_node_properties") +
			cut("ggml-cuda.cu", "static void set_ggml_graph_node_properties") +
			cut("ggml-cuda.cu", "static bool ggml_graph_node_has_matching_properties") + graphMain

		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "graph.cpp"), []byte(source), 0o644))
		out, err := exec.Command("g++", "-std=c++17", "-I"+filepath.Join(ggml, "include"),
			"-I"+filepath.Join(ggml, "src"), "-o", filepath.Join(dir, "graph"),
			filepath.Join(dir, "graph.cpp")).CombinedOutput()
		require.NoError(t, err, "%s", out)
		out, err = exec.Command(filepath.Join(dir, "graph")).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return strings.Split(strings.TrimSpace(string(out)), "\n")
	}
	assert.Equal(t, []string{""}, unnoticed("../build/host"))
	assert.Contains(t, unnoticed("../build/host-stock"), "a source that is gone",
		"the unpatched host has mended this: drop the patch")
}
