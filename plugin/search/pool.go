package search

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/longrope/longrope/plugin/workers"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// Workers say which processes evaluate. At least one of Server and Local is given.
type Workers struct {
	// Server is the NATS server through which other machines take part; nil starts one for the
	// Local workers alone.
	Server *workers.Server
	// Local describes worker processes on this machine; nil starts none.
	Local *workers.Local
	// Invite is called when others can take part through Server, with the study's name there.
	Invite func(study string)
}

type sayFunc = func(format string, args ...any)

// pool is the workers of a search; nil is none.
type pool struct {
	coordinator *workers.Coordinator
	spec        workers.Spec // of every judge, without its readings
	sent        []*judge     // in the order in which the workers were given them
	guests      bool         // others than this program's own workers can take part
}

// startPool starts the workers that the options ask for; nil for none. The first rung's judge
// serves to compare engines.
func startPool(
	ctx context.Context, e Engine, o *Options, j *judge, say sayFunc,
) (*pool, error) {
	if o.Workers == nil {
		return nil, nil
	}
	own, err := describe(ctx, e, j, o.Threads)
	if err != nil {
		return nil, err
	}
	name := studyName(o.Journal)
	c, err := workers.New(ctx, workers.Options{
		Server: o.Workers.Server, Local: o.Workers.Local, Name: name, Engine: own, Say: say,
		Fresh: o.Fresh,
	})
	if err != nil {
		return nil, err
	}
	if o.Workers.Server != nil && o.Workers.Invite != nil {
		o.Workers.Invite(name)
	}
	spec := workers.Spec{
		ModelDigest: e.Info().Digest, ModelName: o.Model, Engine: e.Info().Engine, Batch: o.Batch,
	}
	return &pool{coordinator: c, spec: spec, guests: o.Workers.Server != nil}, nil
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// studyName is a journal's name on a NATS server.
func studyName(journal string) string {
	name := filepath.Base(journal)
	for _, ext := range []string{".study", ".json"} {
		name = strings.TrimSuffix(name, ext)
	}
	if name = strings.Trim(notInNames.ReplaceAllString(name, "-"), "-"); name == "" {
		return "search"
	}
	return name[:min(len(name), 64)]
}

// evaluator has the pool's workers evaluate for a judge; without a pool the engine does.
func (p *pool) evaluator(j *judge, e Engine) evaluator {
	if p == nil {
		return &here{judge: j, engine: e}
	}
	return &there{pool: p, judge: j, engine: e}
}

// crew is who works, as the end of a progress line.
func (p *pool) crew() string {
	if p == nil {
		return ""
	}
	return ", " + p.coordinator.Status().String()
}

// close ends the workers; with complete, also those on other machines. It says who did what.
func (p *pool) close(say sayFunc, complete bool) {
	if p == nil {
		return
	}
	if text := p.coordinator.Status().Summary(); text != "" {
		say("%s", text)
	}
	p.coordinator.Close(complete)
}

// there evaluates on the workers of a pool.
type there struct {
	pool   *pool
	judge  *judge
	engine Engine   // computes a sample of the answers again
	kept   prefixes // for that
	sent   bool     // the workers have the readings
}

func (t *there) close() { t.kept.close() }

func (t *there) evaluate(ctx context.Context, trials []study.Trial, tell tellFunc) error {
	if !t.sent {
		if err := t.send(ctx); err != nil {
			return err
		}
		t.sent = true
	}
	byID := map[int]study.Trial{}
	var asked []workers.Trial
	for _, trial := range trials {
		byID[trial.ID] = trial
		a := workers.Trial{ID: trial.ID, Rung: trial.Rung, Base: trial.Base}
		for _, pass := range study.Passes(t.judge.Readings) {
			if slices.Contains(trial.Readings, pass[0]) {
				a.Passes = append(a.Passes, pass)
				a.Tokens = append(a.Tokens, t.judge.Readings[pass[0]].Tokens)
			}
		}
		asked = append(asked, a)
	}
	return t.pool.coordinator.Evaluate(ctx, asked, func(r workers.Result) error {
		return tell(byID[r.ID], r.Losses, r.Tokens)
	})
}

// send gives the judge to the workers.
func (t *there) send(ctx context.Context) error {
	spec := t.pool.spec
	spec.Length = t.judge.length()
	var err error
	if spec.Readings, err = json.Marshal(t.judge); err != nil {
		return err
	}
	t.pool.sent = append(t.pool.sent, t.judge)
	if !t.pool.guests {
		// Processes of this program on this machine, over a server in this process that nobody else
		// reaches: whoever can change their answers can change this search. To compute some again
		// would cost their user time and find a broken machine at most, on the same machine.
		return t.pool.coordinator.Search(ctx, spec, nil)
	}
	return t.pool.coordinator.Search(ctx, spec, func(
		ctx context.Context, g ropescale.Rung, base *ropescale.Rung, readings []int,
	) ([]float64, int, error) {
		return t.judge.evaluate(ctx, t.engine, &t.kept, g, base, readings)
	})
}

// probe is how many tokens a fingerprint takes: enough for every kind of kernel, and soon done.
const probe = 64

// describe says on what an engine computes, with a fingerprint of its bits.
func describe(ctx context.Context, e Engine, j *judge, threads int) (workers.Engine, error) {
	if threads == 0 {
		threads = runtime.NumCPU()
	}
	info := e.Info()
	d := workers.Engine{Host: info.Host, Backend: info.Backend, Threads: threads}
	if err := e.SetLadder(nil); err != nil {
		return d, err
	}
	tokens := j.first()
	values, err := e.NLL(ctx, tokens[:min(probe, len(tokens))], 1)
	if err != nil {
		return d, err
	}
	h := sha256.New()
	for _, v := range values {
		binary.Write(h, binary.LittleEndian, math.Float64bits(v))
	}
	d.Fingerprint = fmt.Sprintf("%x", h.Sum(nil)[:8])
	return d, nil
}
