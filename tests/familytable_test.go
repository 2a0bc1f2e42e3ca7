package tests

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/tests/checkpoints"
)

// TestFamilyTable writes the table of families to the file that FAMILY_TABLE names. PYTHON and
// PYTHON4 name interpreters with transformers 5 and 4.57.
func TestFamilyTable(t *testing.T) {
	path := os.Getenv("FAMILY_TABLE")
	if path == "" {
		t.Skip("SKIPPED: FAMILY_TABLE names no file")
	}
	rows := make([]*familyRow, len(checkpoints.Families))
	for i, f := range checkpoints.Families {
		rows[i] = newFamilyRow(t, f)
	}
	rotations(t, rows, checkpoints.Python("PYTHON", "python3"), false)
	rotations(t, rows, checkpoints.Python("PYTHON4", ""), true)
	table := bytes.NewBufferString("| family | spelling | folder, transformers 5 | folder, " +
		"transformers 4.57 | GGUF | engine | strip gives it back |\n" +
		"|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(table, "| %s | %s | %s |\n", r.Name, r.Spelling,
			strings.Join(r.cells[:], " | "))
	}
	worst := [5]float64{}
	for _, r := range rows {
		for i, d := range r.deviations {
			worst[i] = max(worst[i], d)
		}
	}
	fmt.Fprintf(table, "| **largest** | | %.1e | %.1e | %.1e | %.1e | |\n", worst[0], worst[1],
		worst[2], worst[3])
	require.NoError(t, os.WriteFile(path, table.Bytes(), 0o644))
}

// familyRow is a row of the table: the cells behind the spelling, and what they are of.
type familyRow struct {
	checkpoints.Family
	cells      [5]string // transformers 5 and 4.57, GGUF, engine, strip
	deviations [5]float64
	in, out    string
	logits     [][]float32 // of the engine
}

func (r *familyRow) set(column int, d float64) {
	r.deviations[column], r.cells[column] = d, fmt.Sprintf("%.1e", d)
	if d == 0 {
		r.cells[column] = "0"
	}
}

// newFamilyRow converts a family in every way, and runs it on the engine.
func newFamilyRow(t *testing.T, f checkpoints.Family) *familyRow {
	t.Helper()
	dir := t.TempDir()
	r := &familyRow{Family: f, in: filepath.Join(dir, "in"), out: filepath.Join(dir, "out")}
	require.NoError(t, f.Write(r.in))
	if f.Refused != "" {
		r.cells = [5]string{"–", "–", "–", "–", "–"}
		r.cells[0] = "refused: " + strings.ReplaceAll(f.Refused, `"`, "")
		return r
	}
	config := filepath.Join(r.in, "config.json")
	r.convert(t, r.in, r.out, f.Ladder())
	back := filepath.Join(dir, "back")
	_, err := convert.Strip(t.Context(), r.out, back, convert.Options{})
	require.NoError(t, err, f.ID())
	same := sameBytes(t, config, filepath.Join(back, "config.json"))

	if f.GGUF != "" {
		r.cells[2] = "refused: " + strings.Replace(f.GGUF, checkpoints.NoConverter,
			"the host has no converter; llama.cpp's "+checkpoints.NoConverter+" has", 1)
		r.cells[3] = "–"
	} else {
		file, long := filepath.Join(dir, "file.gguf"), filepath.Join(dir, "long.gguf")
		r.convert(t, r.in, file, nil)
		info, err := convert.Inspect(file)
		require.NoError(t, err)
		want, err := f.Base()
		require.NoError(t, err)
		got := info.Rope().Identity(f.L)
		if info.Base != nil {
			got = *info.Base
		}
		r.set(2, rowDeviation(want, got))
		r.logits = runFamily(t, &f, r.in)
		r.convert(t, file, long, f.Ladder())
		_, err = convert.Strip(t.Context(), long, back+".gguf", convert.Options{})
		require.NoError(t, err, f.ID())
		same = same && (f.Long != nil || sameBytes(t, file, back+".gguf"))
	}
	r.cells[4] = map[bool]string{true: "yes", false: "**no**"}[same]
	return r
}

func (r *familyRow) convert(t *testing.T, in, out string, l *ropescale.Ladder) {
	t.Helper()
	_, err := convert.Convert(t.Context(), in, out, l, convert.Options{})
	require.NoError(t, err, r.ID())
}

func sameBytes(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	require.NoError(t, err)
	y, err := os.ReadFile(b)
	require.NoError(t, err)
	return bytes.Equal(x, y)
}

// rowDeviation is the largest distance of a row's numbers, as a share.
func rowDeviation(want, got ropescale.Rung) float64 {
	d := math.Abs(got.AttentionFactor/want.AttentionFactor - 1)
	for i, x := range want.Factors {
		d = max(d, math.Abs(got.Factors[i]/x-1))
	}
	return d
}

// rotations fills the column of a version of transformers: the rotation of the folder with a
// ladder, short and long, against the ladder; and with version 5 the engine's column.
func rotations(t *testing.T, rows []*familyRow, python string, old bool) {
	t.Helper()
	require.NotEmpty(t, python, "PYTHON and PYTHON4 name interpreters with transformers")
	column := map[bool]int{false: 0, true: 1}[old]
	var jobs []checkpoints.Job
	for _, r := range rows {
		for _, dir := range []string{r.in, r.out} {
			if r.Refused == "" {
				jobs = append(jobs, checkpoints.Job{
					Dir: dir, Pairs: r.Dims / 2, Length: r.L,
					Tokens: checkpoints.Tokens(familyTokens),
				})
			}
		}
	}
	all, err := checkpoints.Check(python, jobs)
	require.NoError(t, err)
	for _, r := range rows {
		if r.Refused != "" {
			continue
		}
		before, after := all[0], all[1]
		all = all[2:]
		switch {
		case before.Lacks():
			require.Fail(t, before.Error)
		case old && r.OldFolder == checkpoints.Ignored:
			r.cells[column] = "ignores the factors; a note says so"
		case old && r.OldFolder != "":
			r.cells[column] = "refuses it; a note says so"
		default:
			require.Empty(t, after.Error, r.ID())
			base, err := r.Base()
			require.NoError(t, err)
			g := r.Ladder().Rungs[0]
			base.AttentionFactor = g.AttentionFactor // of which transformers has one
			r.set(column, max(after.Short.Deviation(r.Rope(), base),
				after.Long.Deviation(r.Rope(), g)))
		}
		if r.logits != nil && !old {
			r.cells[3] = "transformers " + r.Unrun
			if r.Unrun == "" {
				d := compare(t, before.Logits, r.logits)
				r.set(3, d.worst/d.largest)
			}
		}
	}
}
