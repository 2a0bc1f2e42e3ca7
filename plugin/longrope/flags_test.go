package longrope

import (
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/longrope/longrope/plugin/extend"
	"github.com/longrope/longrope/plugin/search"
)

// TestNames: the names of options in the errors of a search or an extension are flags of the
// command, and no option that a flag sets lacks a name.
func TestNames(t *testing.T) {
	options := reflect.TypeFor[search.Options]()
	extension := reflect.TypeFor[extend.Options]()
	training := reflect.TypeFor[extend.Training]()
	for _, c := range []struct {
		command string
		names   search.Names
		fields  []reflect.Type
		unnamed []string // fields that no flag sets
	}{
		{"search", searchNames, []reflect.Type{options}, []string{
			"Model", "Info", "Called", "Now", "Memory",
		}},
		{"extend", extendSearchNames, []reflect.Type{options}, []string{
			"Model", "Info", "Called", "Now", "Starts", "Algorithm", "Keys", "Attention", "Knots",
			"StartWindows", "Threads", "Batch", "Workers", "Exact", "Memory",
		}},
		{"extend", extendNames, []reflect.Type{extension, training}, []string{
			"Model", "First", "Search", "Training", "Load", "Page", "Called", "Now", "Options",
		}},
	} {
		cmd, _, err := newCommand(openFake).Find([]string{c.command})
		require.NoError(t, err)
		for field, flag := range c.names {
			require.Equal(t, "--", flag[:2])
			assert.NotNil(t, cmd.Flags().Lookup(flag[2:]), "%s has no %s", c.command, flag)
			known := slices.ContainsFunc(c.fields, func(s reflect.Type) bool {
				_, ok := s.FieldByName(field)
				return ok
			})
			assert.True(t, known, "%s is the name of no option", field)
		}
		for _, s := range c.fields {
			for _, f := range reflect.VisibleFields(s) {
				_, ok := c.names[f.Name]
				assert.NotEqual(t, slices.Contains(c.unnamed, f.Name), ok, "%s.%s", s, f.Name)
			}
		}
	}
}
