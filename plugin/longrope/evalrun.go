package longrope

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/journal"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/evals/remote"
	"github.com/longrope/longrope/evals/taskflag"
)

// measure compares methods and reports the result. Finished calls are kept in a journal where there
// is a place for one.
func (a *app) measure(ctx context.Context, e evals.Engine, methods []evals.Method,
	o evals.CompareOptions, f evalFlags,
) (err error) {
	path := f.journal
	if path == "" && f.csv != "" {
		path = strings.TrimSuffix(f.csv, filepath.Ext(f.csv)) + ".journal"
	}
	var j *journal.Engine
	if path != "" {
		if j, err = journal.Open(path, e); err != nil {
			return fmt.Errorf("--journal: %w", err)
		}
		e = j
		if j.Known > 0 {
			a.say("%s has %s answers, which are not computed again", path, label.Count(j.Known))
		}
	}
	o.Progress = a.evalProgress(j)
	c, err := evals.Compare(ctx, e, methods, o)
	a.done()
	if j != nil {
		err = errors.Join(err, j.Close())
	}
	if err == nil {
		err = a.reportEval(c, f)
	}
	switch {
	case j == nil:
	case err == nil && f.journal == "" && j.Known+j.Computed > 0:
		return os.Remove(path)
	case err != nil && j.Known+j.Computed > 0:
		a.say("%s has the answers so far; the same command takes them", path)
	}
	return err
}

// evalProgress shows progress. The time that is left is told by what was computed, not by answers
// of the journal.
func (a *app) evalProgress(j *journal.Engine) evals.Progress {
	started, before := a.now(), 0
	return func(done, total int, label string) {
		since := started
		if j != nil && j.Computed == 0 {
			started, before = a.now(), done
			since = started
		} else if before > 0 && done > before {
			since = a.now().Add(-time.Duration(float64(a.now().Sub(started)) * float64(done) /
				float64(done-before)))
		}
		a.progress(since, label, float64(done), float64(total), "")
	}
}

// serverTokens is how long a sequence the model is opened for that only tokenizes.
const serverTokens = 512

// evalServer asks a server. MODEL is the same model here, whose tokenizer makes the samples; where
// they are read from a file it can be only what the server calls it.
func (a *app) evalServer(ctx context.Context, arg string, tasks []evals.Task,
	o evals.CompareOptions, f evalFlags,
) error {
	for _, t := range tasks {
		if !t.Server {
			return fmt.Errorf("--server: %s needs likelihoods or factors, and a server gives "+
				"text; it can be asked %s", t.Name, strings.Join(serverGroups(), ", "))
		}
	}
	if len(f.methods) > 0 || f.target != 0 || f.samples != "" {
		return errors.New("--methods, --target and --write-samples are not for --server: its " +
			"model is what it is")
	}
	s := remote.Options{
		URL: f.server, Model: f.serverModel, NumCtx: int(f.numCtx), Chat: f.tasks.Chat(),
	}
	if s.Model == "" {
		s.Model = arg
	}
	o.Lengths = f.lengths.ascending()
	m, err := find(arg)
	if err == nil {
		var done func()
		if m, done, err = a.runnable(ctx, m); err != nil {
			return err
		}
		defer done()
		e, err := a.load(m, serverTokens)
		if err != nil {
			return err
		}
		defer e.Close()
		s.Tokenizer, o.Books = e, books(e)
		o.Lengths = evalLengths(m, f.lengths, false)
	} else if !f.tasks.FromFile() {
		return fmt.Errorf("%w; it makes the samples: name a model here, or ask --samples", err)
	}
	if len(o.Lengths) == 0 {
		return errors.New("--lengths: say which lengths of --samples to ask")
	}
	e, err := remote.New(ctx, s)
	if err != nil {
		return fmt.Errorf("--server: %w", err)
	}
	return a.measure(ctx, e, []evals.Method{{Name: "server"}}, o, f)
}

// serverGroups are the tasks that a server can be asked.
func serverGroups() (names []string) {
	return taskflag.GroupsOf(slices.DeleteFunc(evals.Tasks(), func(t evals.Task) bool {
		return !t.Server
	}))
}

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
