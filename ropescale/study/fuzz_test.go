package study

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/ropescale"
)

// FuzzHeader: no first line of a journal panics or is taken for another study than it says, and the
// header of what it starts is taken back.
func FuzzHeader(f *testing.F) {
	opts := Options{
		Rope: ropescale.Rope{Dims: 4, FreqBase: 100, OriginalContextLength: 8}, Target: 16,
		Budget: 60, Params: Params{Population: 2},
		Readings: []Reading{{Kind: "text", Tokens: 1, Weight: 1}},
	}
	s := newStudy(f, opts)
	line, err := s.header()
	require.NoError(f, err)
	f.Add(line)
	f.Add(line[:len(line)/2])
	f.Add(bytes.Replace(line, []byte(`"given"`), []byte(`"unknown"`), 1))
	for _, version := range []string{"7", "6", "9", `"8"`, "null", "1e400"} {
		old := bytes.Replace(line, []byte(`"longrope_study":8`), []byte(`"longrope_study":`+version),
			1)
		f.Add(old)
	}
	f.Add([]byte(`{"longrope_study":7,"target":16}` + "\n"))
	f.Add([]byte("{\"longrope_study\":8,\"given\":{}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := parseHeader(b)
		if err != nil || h == nil {
			return
		}
		require.LessOrEqual(t, len(rest), len(b))
		for _, asked := range []Options{
			opts, {Rope: h.Rope, Target: h.Target, Readings: h.Readings, Seed: h.Seed},
		} {
			asked.Params.Population = min(asked.Params.Population, 1000)
			s, err := New(asked)
			if err != nil {
				continue
			}
			if s, err = s.startedAs(h); err != nil {
				continue
			}
			line, err := s.header()
			require.NoError(t, err)
			again, _, err := parseHeader(line)
			require.NoError(t, err)
			require.NotNil(t, again)
			_, err = s.startedAs(again)
			require.NoError(t, err)
			x, err := json.Marshal(again.Options)
			require.NoError(t, err)
			y, err := json.Marshal(s.Options())
			require.NoError(t, err)
			require.Equal(t, string(y), string(x))
		}
	})
}
