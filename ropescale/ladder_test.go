package ropescale

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// small is a valid ladder with a rung below L, one above it with a start window, and factors that
// are not monotone.
func small() *Ladder {
	return &Ladder{Version: 1, OriginalContextLength: 256, RopeDimensionCount: 4, Rungs: []Rung{
		{Length: 128, AttentionFactor: 1, Factors: []float64{1, 1}},
		{Length: 1024, AttentionFactor: 1.1, Factors: []float64{1.5, 1.25}, StartWindow: 16},
		{Length: 2048, AttentionFactor: 1.2, Factors: []float64{1, 8}},
	}}
}

func TestValidate(t *testing.T) {
	require.NoError(t, small().Validate(), "monotone factors are not asked for")
	_, err := NewLadder(tiny, nil)
	require.NoError(t, err, "no rungs is the model's own RoPE at every length")

	base := func(b Rung) func(*Ladder) { return func(l *Ladder) { l.Base = &b } }
	for want, change := range map[string]func(*Ladder){
		"version is 2, this program reads version 1": func(l *Ladder) { l.Version = 2 },
		"version is 0":                       func(l *Ladder) { l.Version = 0 },
		"original_context_length is 0":       func(l *Ladder) { l.OriginalContextLength = 0 },
		"rope_dimension_count is 5":          func(l *Ladder) { l.RopeDimensionCount = 5 },
		"rope_dimension_count is 1073741824": func(l *Ladder) { l.RopeDimensionCount = 1 << 30 },
		"rung 1: 1 factors, want 2":          func(l *Ladder) { l.Rungs[0].Factors = []float64{1} },
		"rung 2: factor 1 is 0,":             func(l *Ladder) { l.Rungs[1].Factors[1] = 0 },
		"rung 2: factor 0 is -1,":            func(l *Ladder) { l.Rungs[1].Factors[0] = -1 },
		"rung 2: factor 0 is NaN": func(l *Ladder) {
			l.Rungs[1].Factors[0] = math.NaN()
		},
		"rung 2: factor 0 is +Inf": func(l *Ladder) {
			l.Rungs[1].Factors[0] = math.Inf(1)
		},
		// Inf as float32
		"rung 2: factor 0 is 1e+300": func(l *Ladder) {
			l.Rungs[1].Factors[0] = 1e300
		},
		"rung 2: factor 0 is 1e-300": func(l *Ladder) {
			l.Rungs[1].Factors[0] = 1e-300
		},
		"rung 3: attention_factor is 0": func(l *Ladder) {
			l.Rungs[2].AttentionFactor = 0
		},
		"rung 3: length 1024 does not exceed rung 2's": func(l *Ladder) {
			l.Rungs[2].Length = 1024
		},
		"rung 1: length is 0": func(l *Ladder) { l.Rungs[0].Length = 0 },
		"rung 2: start_window is 1024, want 0 to below": func(l *Ladder) {
			l.Rungs[1].StartWindow = 1024
		},
		"rung 2: start_window is -1": func(l *Ladder) {
			l.Rungs[1].StartWindow = -1
		},
		"base: start_window is 4": base(Rung{
			StartWindow:     4,
			AttentionFactor: 1, Factors: []float64{1, 1},
		}),
		"base: 0 factors": base(Rung{AttentionFactor: 1}),
		"base: attention_factor is NaN": base(Rung{
			AttentionFactor: math.NaN(),
			Factors:         []float64{1, 1},
		}),
		fmt.Sprintf("rung 3: length is %d", MaxLength+1): func(l *Ladder) {
			l.Rungs[2].Length = MaxLength + 1
		},
		fmt.Sprintf("%d rungs, %d is the most", MaxRows, MaxRows-1): func(l *Ladder) {
			l.Rungs = make([]Rung, MaxRows)
		},
		"original_context_length is 1, want 2 to 2147483": func(l *Ladder) {
			l.OriginalContextLength = 1
		},
	} {
		l := small()
		change(l)
		assert.ErrorContains(t, l.Validate(), want)
	}
}

func TestRungForAndRow(t *testing.T) {
	l := small()
	for n, want := range map[int]int{
		0: 1, 1: 1, 128: 1, 129: 0, 256: 0, 257: 2, 1024: 2, 1025: 3,
		2048: 3, 2049: 3, 1 << 30: 3,
	} {
		assert.Equal(t, want, l.RungFor(n), "%d tokens", n)
	}
	l.Rungs = l.Rungs[1:]
	for n, want := range map[int]int{1: 0, 256: 0, 257: 1, 2048: 2, 2049: 2} {
		assert.Equal(t, want, l.RungFor(n), "%d tokens, no short rung", n)
	}
	assert.Equal(t, []int{0, 0, 1, 1}, []int{
		l.Row(1, 0), l.Row(1, 15), l.Row(1, 16),
		l.Row(1, 2047),
	})
	assert.Equal(t, []int{2, 0}, []int{l.Row(2, 0), l.Row(0, 100)})
	assert.Panics(t, func() { l.Row(3, 0) })
	l.Rungs = nil
	assert.Equal(t, 0, l.RungFor(1<<20))
}

func TestRows(t *testing.T) {
	l := small()
	rows, windows := l.Rows()
	assert.Equal(t, [][]float32{{1, 1, 1}, {1, 1, 1}, {1.5, 1.25, 1.1}, {1, 8, 1.2}}, rows)
	assert.Equal(t, []int32{0, 0, 16, 0}, windows)
	l.Base = &Rung{AttentionFactor: 0.5, Factors: []float64{2, 3}}
	rows, _ = l.Rows()
	assert.Equal(t, []float32{2, 3, 0.5}, rows[0])
}

func TestDigest(t *testing.T) {
	l, digest := small(), small().Digest()
	l.Source, l.Extra = &Source{Seed: 3}, map[string]json.RawMessage{"x": []byte("1")}
	l.Rungs[0].Extra = l.Extra
	assert.Equal(t, digest, l.Digest(), "provenance does not count")
	one := Rope{Dims: 4}.Identity(0)
	l.Base = &one
	assert.Equal(t, digest, l.Digest(), "an identity base is no base")
	l.Rungs[1].Factors[0] += 1e-9
	assert.NotEqual(t, digest, l.Digest())
	assert.Equal(t, digest, small().Digest())
}

func TestFactorsDefaults(t *testing.T) {
	l, err := ReadFactors(strings.NewReader(`{"version": 1, "original_context_length": 256, "rope_dimension_count": 4,
		"base": {"factors": [1, 2]},
		"rungs": [{"length": 200, "factors": [1, 1]}, {"length": 2048, "factors": [1, 8]},
		          {"length": 4096, "start_window": 8, "attention_factor": 1.5, "factors": [1, 16]}]}`))
	require.NoError(t, err)
	assert.Equal(t, 1.0, l.Base.AttentionFactor)
	assert.Equal(t, []float64{1, LongRoPEAttentionFactor(2048, 256), 1.5},
		[]float64{
			l.Rungs[0].AttentionFactor, l.Rungs[1].AttentionFactor,
			l.Rungs[2].AttentionFactor,
		})
	assert.Equal(t, []int{0, 0, 8}, []int{
		l.Rungs[0].StartWindow, l.Rungs[1].StartWindow,
		l.Rungs[2].StartWindow,
	})
	assert.Nil(t, l.Source)
}

const withUnknownFields = `{"version": 1, "original_context_length": 256, "rope_dimension_count": 4, "Version": 7, "note": "by [\n1,\n2] hand",
	"rungs": [{"length": 2048, "start_window": 32, "attention_factor": 1.063, "factors": [1.0, 8.25], "author": {"name": "a", "ids": [1, 2]}}],
	"source": {"model_digest": "sha256:00", "method": "longrope", "seed": 18446744073709551615, "texts": ["a.txt"], "fitness": 2.68, "gpu": null}}`

func TestFactorsKeepUnknownFields(t *testing.T) {
	l, err := ReadFactors(strings.NewReader(withUnknownFields))
	require.NoError(t, err)
	assert.Equal(t, uint64(math.MaxUint64), l.Source.Seed)
	var out bytes.Buffer
	require.NoError(t, l.WriteFactors(&out))
	assert.JSONEq(t, withUnknownFields, out.String())
	assert.Contains(t, out.String(), `"factors": [1, 8.25]`, "numbers stay on one line")
	again, err := ReadFactors(bytes.NewReader(out.Bytes()))
	require.NoError(t, err)
	assert.Equal(t, l.Rungs[0].Factors, again.Rungs[0].Factors)
	var twice bytes.Buffer
	require.NoError(t, again.WriteFactors(&twice))
	assert.Equal(t, out.String(), twice.String())

	l.Rungs[0].Factors[0] = 0
	assert.ErrorContains(t, l.WriteFactors(&out), "factor 0 is 0",
		"what cannot be read is not written")
}

func TestReadFactorsErrors(t *testing.T) {
	head := `{"version": 1, "original_context_length": 256, "rope_dimension_count": 4`
	for want, in := range map[string]string{
		"not json: line 1": "",
		"not json: line 2": "{\n\"version\": 1,,}",
		"not json":         `{"version": 1} trailing`,
		`the key "start_window" occurs twice`: `{"version": 1, "original_context_length": 64,
  "rope_dimension_count": 4, "rungs": [{"length": 128, "start_window": 1, "start_window": 2,
  "factors": [1, 2]}]}`,
		"version: string, where a whole number": `{"version": "one"}`,
		"version is 0":                          `{}`,
		"version is 9":                          `{"version": 9}`,
		`"rungs" is missing or empty`:           head + "}",
		"rung 1: 1 factors, want 2":             head + `, "rungs": [{"length": 512, "factors": [1]}]}`,
		"rung 1: attention_factor is 0": head + `, "rungs": [{"length": 512,
			"attention_factor": 0, "factors": [1, 1]}]}`,
		"bytes; this is not a factors": strings.Repeat(" ", maxFactorsFile+1),
	} {
		_, err := ReadFactors(strings.NewReader(in))
		assert.ErrorContains(t, err, want)
		assert.True(t, err == nil || strings.HasPrefix(err.Error(), "factors: "), "%v", err)
	}
}

// A byte order mark, which some editors put in front, is no part of factors.json.
func TestReadFactorsWithByteOrderMark(t *testing.T) {
	const text = `{"version": 1, "original_context_length": 8, "rope_dimension_count": 4,
"rungs": [{"length": 16, "factors": [1, 2]}]}`
	want, err := ReadFactors(strings.NewReader(text))
	require.NoError(t, err)
	got, err := ReadFactors(strings.NewReader("\ufeff" + text))
	require.NoError(t, err)
	assert.Equal(t, want, got)
}

func TestReadFactorsCSV(t *testing.T) {
	want := []float64{1, 1.009999990463257, 32}
	for name, in := range map[string]string{
		"row":          "1,1.009999990463257,32\n",
		"no newline":   "1,1.009999990463257,32",
		"layers":       strings.Repeat("1,1.009999990463257,32\n", 32),
		"column":       "1.0e+00\n1.009999990463257\n3.2e1\n",
		"spaces, crlf": "\ufeff 1, 1.009999990463257 ,32\r\n\r\n",
		"comma at end": "1,1.009999990463257,32,\n",
		"two layers":   "1,1.009999990463257,32\n1,1.009999990463257,32\n",
	} {
		got, err := ReadFactorsCSV(strings.NewReader(in))
		require.NoError(t, err, name)
		assert.Equal(t, want, got, name)
	}
	for want, in := range map[string]string{
		"no numbers":                 "\n\n",
		`line 1: field 2 is "x"`:     "1,x\n",
		"line 2: field 1 is -1":      "1,2\n-1,2\n",
		"line 1: field 1 is NaN":     "nan,2",
		"line 1: field 1 is +Inf":    "inf,2",
		"line 2 has 3 numbers":       "1,2\n1,2,3\n",
		"line 2 differs from line 1": "1,2\n1,2.5\n",
		"more than 8192 numbers":     strings.Repeat("1\n", maxDims/2+1),
		"token too long":             strings.Repeat("1", 1<<20+1),
	} {
		_, err := ReadFactorsCSV(strings.NewReader(in))
		assert.ErrorContains(t, err, want)
	}
}

func FuzzReadFactors(f *testing.F) {
	f.Add([]byte(withUnknownFields))
	f.Add([]byte(`{"version":1,"original_context_length":2,"rope_dimension_count":2,
		"base":{"factors":[1e30]},"rungs":[{"length":3,"factors":[1e-30],"a":[-1]}],"source":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ReadFactors(bytes.NewReader(b))
		if err != nil {
			return
		}
		var once, twice bytes.Buffer
		require.NoError(t, l.WriteFactors(&once))
		again, err := ReadFactors(bytes.NewReader(once.Bytes()))
		require.NoError(t, err, "%s", once.String())
		require.Equal(t, l.Digest(), again.Digest())
		require.NoError(t, again.WriteFactors(&twice))
		require.Equal(t, once.String(), twice.String())
		for _, n := range []int{1, l.OriginalContextLength, l.Rungs[0].Length + 1} {
			l.Row(l.RungFor(n), n-1)
		}
		rows, windows := l.Rows()
		require.Len(t, windows, len(rows))
	})
}

func FuzzReadFactorsCSV(f *testing.F) {
	f.Add([]byte("1,2,3\n1,2,3\n"))
	f.Add([]byte("1\n2\n\n3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		factors, err := ReadFactorsCSV(bytes.NewReader(b))
		if err != nil {
			return
		}
		require.NotEmpty(t, factors)
		var line strings.Builder
		for i, v := range factors {
			require.True(t, Usable(v))
			fmt.Fprintf(&line, "%s%v", strings.Repeat(",", min(i, 1)), v)
		}
		again, err := ReadFactorsCSV(strings.NewReader(line.String()))
		require.NoError(t, err)
		require.Equal(t, factors, again)
	})
}

// TestBounds: numbers with which float32 has no result are refused, with the bound.
func TestBounds(t *testing.T) {
	factor := "factor 1 is %g, want 1e-20 to 1e+20"
	attention := "attention_factor is %g, want 1e-09 to 1e+09"
	for _, x := range []float64{1e-38, 1e38, 0, -1, math.NaN(), math.Inf(1)} {
		g := Rung{Length: 2048, AttentionFactor: 1, Factors: []float64{1, 1}}
		require.NoError(t, g.Check(2))
		g.Factors[1] = x
		assert.EqualError(t, g.Check(2), fmt.Sprintf(factor, x))
		g.Factors[1], g.AttentionFactor = 1, x
		assert.EqualError(t, g.Check(2), fmt.Sprintf(attention, x))
	}
}
