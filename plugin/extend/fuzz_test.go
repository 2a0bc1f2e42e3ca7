package extend

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzState: no state.json breaks what is done with it: it is held against settings, stages are
// noted in it, and it is written again.
func FuzzState(f *testing.F) {
	whole := State{
		Version: stateVersion, Settings: map[string]string{"seed": "1"},
		Stages: []*Stage{{
			Name: "search", Output: "factors-1.json", Took: 1,
			Result: json.RawMessage(`{"Trials":9}`),
		}},
	}
	b, err := json.Marshal(whole)
	require.NoError(f, err)
	f.Add(b)
	f.Add([]byte(`{"version":1,"stages":[null]}`))
	f.Add([]byte(`{"version":1,"stages":[{"output":"../x","result":[1]}],"settings":null}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			return
		}
		for _, st := range s.Stages {
			st.Note()
			assert.Equal(t, filepath.Base(st.Output), st.Output)
		}
		s.put(&Stage{Name: "train", Output: "factors-1.json"})
		out, err := json.Marshal(s)
		require.NoError(t, err)
		again, err := parseState(out)
		require.NoError(t, err)
		assert.Len(t, again.Stages, len(s.Stages))
	})
}
