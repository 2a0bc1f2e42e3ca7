package search

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/convert"
	"github.com/longrope/longrope/ropescale/published"
)

// A published set is a start where the model is of its family and has its d, base and L, and one
// that was named is refused elsewhere, with the reason.
func TestPublishedStarts(t *testing.T) {
	llama3 := convert.ModelInfo{
		Name: "Meta Llama 3 8B Instruct", OriginalContextLength: 8192, RopeDimensionCount: 128,
		FreqBase: 500000,
	}
	starts := func(info convert.ModelInfo, o Options) (origins []string, err error) {
		o.Info, o.Called = &info, Names{"Starts": "--start"}
		if o.Targets == nil {
			o.Targets = []int{32768}
		}
		goals, err := o.goals()
		if err == nil {
			for _, c := range goals[0].given {
				assert.Equal(t, o.Targets[0], c.Rung.Length)
				origins = append(origins, c.Origin)
			}
		}
		return origins, err
	}
	const name = "longrope2_llama3_8b_128k"
	set, err := published.ByName(name)
	require.NoError(t, err)
	given := []Start{{Name: name, Path: name, Published: &set}}
	other, tuned := llama3, llama3
	other.Name, tuned.OriginalContextLength = "Some 8B", 131072
	for what, c := range map[string]struct {
		info convert.ModelInfo
		o    Options
		want []string
	}{
		"by itself": {llama3, Options{Algorithm: "cma"}, []string{name}},
		"named, once": {
			llama3,
			Options{Algorithm: "cma", Starts: given},
			[]string{name},
		},
		"by the paper's, if named": {
			llama3,
			Options{Algorithm: "longrope", Starts: given},
			[]string{name},
		},
		"not by others":         {llama3, Options{Algorithm: "dim-mono"}, nil},
		"not of another family": {other, Options{Algorithm: "cma"}, nil},
		"of another family, if named": {
			other,
			Options{Algorithm: "cma", Starts: given},
			[]string{name},
		},
		"not of another L": {
			tuned,
			Options{Algorithm: "cma", Targets: []int{1 << 18}},
			nil,
		},
	} {
		got, err := starts(c.info, c.o)
		require.NoError(t, err, what)
		assert.Equal(t, c.want, got, what)
	}
	_, err = starts(tuned, Options{Algorithm: "cma", Targets: []int{1 << 18}, Starts: given})
	assert.ErrorContains(t, err, "--start: "+name+": the set"+
		" is for a model trained for 8192 tokens, this one was for 131072")
}
