package tests

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/tests/session"
)

const goldenRerun = "the values are made by `python3 testdata/golden.py` in tests/ " +
	"(needs torch, transformers and gguf); " +
	"run it again if the script changed, else the engine is wrong"

// goldenCase is one run of transformers.
type goldenCase struct {
	Name, Model string
	Tokens, At  []int
	Logits      [][]float64
}

func readGolden(t *testing.T) []goldenCase {
	t.Helper()
	data, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err, goldenRerun)
	var golden struct {
		Torch, Transformers, Numpy string
		Cases                      []goldenCase
	}
	require.NoError(t, json.Unmarshal(data, &golden), goldenRerun)
	require.NotEmpty(t, golden.Cases, goldenRerun)
	t.Logf("golden values of transformers %s, torch %s, numpy %s", golden.Transformers,
		golden.Torch, golden.Numpy)
	return golden.Cases
}

// The engine's logits are those of Hugging Face transformers (rope type longrope), which has no
// start window, at lengths of L and 32 L. The ladder is read from the model file.
//
// Both sides compute angles in float32. At p = 2047 pair 1, the fastest with a factor, has an angle
// of 590 rad, which transformers knows to 4 roundings and the engine to 4: together 590 * 8 * 2^-24
// = 3e-4 rad. A score is a sum of 8 pairs of up to 20 in these models, so attention's weights may
// be wrong by 1e-3 and logits of about 10 by that of themselves. The short case has angles of up to
// 20 rad and a thirtieth of that.
func TestGolden(t *testing.T) {
	cases := readGolden(t)
	bounds := map[string]float64{"short": 3e-5, "long": 1e-3}
	for _, c := range cases {
		t.Run(c.Model+"/"+c.Name, func(t *testing.T) {
			s := open(t, "testdata/"+c.Model, session.Options{Context: 2048})
			s.SetRung(0, s.RungFor(len(c.Tokens)))
			all, err := s.Prefill(c.Tokens, 0, 0, 512)
			require.NoError(t, err)
			got := make([][]float32, len(c.At))
			for i, at := range c.At {
				got[i] = all[at]
			}
			d := compare(t, c.Logits, got)
			t.Log(d)
			assert.LessOrEqual(t, d.worst, bounds[c.Name]*d.largest, "%v: %s", d, goldenRerun)

			// and the case would notice a wrong rung
			s.Clear()
			s.SetRung(0, 0)
			all, err = s.Prefill(c.Tokens, 0, 0, 512)
			require.NoError(t, err)
			for i, at := range c.At {
				got[i] = all[at]
			}
			assert.Greater(t, compare(t, c.Logits, got).worst, 10*bounds[c.Name]*d.largest,
				"the case cannot tell rungs apart")
		})
	}
}
