package longrope

import (
	"io"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
)

// writeSamples writes the prompts of all jobs as lines of JSON.
func (a *app) writeSamples(path string, e evals.Engine, o evals.CompareOptions) error {
	n := 0
	err := atomicfile.Write(path, func(w io.Writer) (err error) {
		n, err = evals.WriteSamples(w, e, o)
		return err
	})
	if err != nil {
		return err
	}
	a.say("wrote %s samples to %s", label.Count(n), path)
	return nil
}

// chatTemplate puts what a user says into the chat template of a model; nil where it has none.
func chatTemplate(m *model) (func(user string) (string, error), error) {
	t, err := m.source.ChatTemplate(m.path)
	if t == nil || err != nil {
		return nil, err
	}
	return t.User, nil
}
