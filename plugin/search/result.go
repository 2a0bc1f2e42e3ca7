package search

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
	"github.com/longrope/longrope/ropescale/study"
)

// Result is what a search found.
type Result struct {
	Model         string            `json:"model"`
	Digest        string            `json:"model_digest"`
	Texts         []evals.Text      `json:"texts"`
	HeldOut       []evals.Text      `json:"held_out_texts"`
	Rungs         []RungResult      `json:"rungs"`
	Trials        int               `json:"trials"`
	Tokens        int               `json:"tokens"`
	HeldOutTokens int               `json:"held_out_tokens"`
	Complete      bool              `json:"complete"` // false: stopped by Options.Time
	Seconds       float64           `json:"seconds"`
	Ladder        *ropescale.Ladder `json:"ladder"`
}

// RungResult is one rung that was searched.
type RungResult struct {
	Target        int    `json:"target"`
	Relative      string `json:"relative,omitempty"` // what candidates stretch, if not the own RoPE
	Measure       string `json:"fitness"`
	Rows          []Row  `json:"rows"`
	Trials        int    `json:"trials"`
	Tokens        int    `json:"tokens"`
	HeldOutTokens int    `json:"held_out_tokens"`
	// Renewals compare cheap readings with exact ones; none where there were no cheap ones.
	Renewals []study.Renewal `json:"renewals,omitempty"`

	Study   *study.Study `json:"-"` // to be read
	HeldOut HeldOut      `json:"-"`
}

// Row is a method with its fitness, the parts of that, and its perplexity on held-out text; nil
// where it failed or was not measured. The last row of a rung is the search's.
type Row struct {
	Method  string   `json:"method"`
	Fitness *float64 `json:"fitness"`
	Text    *float64 `json:"text,omitempty"`         // perplexity of the search text
	Keys    *float64 `json:"keys,omitempty"`         // NLL of hidden keys, nats
	Further *float64 `json:"further_keys,omitempty"` // of those that finalists alone look for
	HeldOut *float64 `json:"held_out"`

	Trial study.Trial `json:"-"`
}

// searchedRung is what the provenance of a ladder says of each rung that was searched.
type searchedRung struct {
	Length   int     `json:"length"`
	Relative string  `json:"relative,omitempty"`
	Measure  string  `json:"measure"`
	Fitness  float64 `json:"fitness"`
	Trials   int     `json:"trials"`
	Tokens   int     `json:"tokens"`
}

// finish makes the result: the ladder is handed over first, then it and the methods are measured on
// held-out text.
func (s *ladderSearch) finish(ctx context.Context) (*Result, error) {
	l, err := s.ladder()
	if err != nil {
		return nil, err
	}
	r := &Result{
		Model: s.o.Model, Digest: s.engine.Info().Digest,
		Trials: l.Source.Trials, Tokens: l.Source.Tokens,
		Complete: len(s.rungs) == len(s.o.Targets) && s.rungs[len(s.rungs)-1].complete,
		Ladder:   l,
	}
	for _, rung := range s.rungs {
		r.Rungs = append(r.Rungs, rung.report())
		r.Texts = union(r.Texts, rung.texts)
	}
	// The factors are what was paid for: they are on disk before anything else is tried.
	if err := s.events.Found(l); err != nil {
		return nil, err
	}
	err = s.measureHeldOut(ctx, r)
	for i, rung := range s.rungs {
		r.Rungs[i].HeldOut = rung.held.part()
	}
	r.Seconds = s.o.Now().Sub(s.started).Seconds()
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	if err != nil {
		s.events.Say("interrupted before the held-out text was evaluated: that column stays empty")
	}
	return r, ctx.Err()
}

// ladder is the factors that were found, in the model's ladder, with where they came from.
func (s *ladderSearch) ladder() (*ropescale.Ladder, error) {
	var rungs []ropescale.Rung
	var searched []searchedRung
	source := &ropescale.Source{
		ModelDigest: s.engine.Info().Digest, Method: "longrope",
		Algorithm: s.rungs[0].study.Options().Algorithm, Seed: s.o.Seed,
	}
	for _, r := range s.rungs {
		best, ok := r.result()
		if !ok {
			return nil, r.errFailed()
		}
		rungs = append(rungs, best.Rung)
		trials, tokens := len(r.study.History()), r.spent()
		source.Trials, source.Tokens = source.Trials+trials, source.Tokens+tokens
		source.Texts = union(source.Texts, r.study.Options().Texts)
		source.Measure, source.Fitness = r.judge.Name, best.Fitness
		searched = append(searched, searchedRung{
			r.goal.target, r.goal.relative, r.judge.Name, best.Fitness, trials, tokens,
		})
	}
	source.Extra = map[string]json.RawMessage{}
	note := func(key string, v any) error {
		b, err := json.Marshal(v)
		source.Extra[key] = b
		return err
	}
	if len(s.rungs) > 1 { // one fitness cannot speak for several rungs
		source.Measure, source.Fitness = "", 0
		if err := note("rungs", searched); err != nil {
			return nil, err
		}
	}
	if l := s.o.Info.Ladder; l != nil && l.Source != nil {
		if err := note("before", l.Source); err != nil {
			return nil, err
		}
	}
	l, err := ladderWith(s.o.Info, rungs...)
	if err != nil {
		return nil, err
	}
	l.Source = source
	return l, nil
}

// report is the rung's part of the result; held-out text comes later.
func (r *rungSearch) report() RungResult {
	best, _ := r.result()
	out := RungResult{
		Target: r.goal.target, Relative: r.goal.relative, Measure: r.judge.Name, Rows: []Row{},
		Trials: len(r.study.History()), Tokens: r.spent(), Study: r.study,
		Renewals: r.study.Renewals(),
	}
	scores := ScoresOf(r.study)
	row := func(method string, t study.Trial) {
		s := scores[t.Candidate]
		out.Rows = append(out.Rows, Row{
			Method: method, Fitness: Finite(t.Fitness),
			Text: s.Text, Keys: s.Keys, Further: s.Further, Trial: t,
		})
	}
	for _, name := range r.goal.methods(r.ladder.o.Algorithm) {
		if t, ok := r.study.Seeds()[name]; ok {
			row(name, t)
		}
	}
	for _, c := range r.goal.given {
		for _, t := range r.study.History() {
			if t.Origin == c.Origin && t.Generation == 0 {
				row(c.Origin, t)
			}
		}
	}
	row("longrope", best)
	return out
}

// measureHeldOut fills in the column of text that was not searched on: of the result and the best
// method that needs no search, and of others as far as the share of tokens for that allows it.
func (s *ladderSearch) measureHeldOut(ctx context.Context, result *Result) error {
	started := s.o.Now()
	for i, r := range s.rungs {
		if r.held == nil {
			continue
		}
		rung := &result.Rungs[i]
		for done, k := range rung.byInterest() {
			row := &rung.Rows[k]
			if done > 1 && !r.held.may(true) && r.held.missing(row.Trial.Candidate) {
				continue
			}
			s.events.Progress(Progress{
				Started: started, Label: "held-out text",
				Done:  float64(i*len(rung.Rows) + done),
				Total: float64(len(s.rungs) * len(rung.Rows)),
				Note: fmt.Sprintf("%s tokens, %s",
					label.Size(r.goal.target), ropescale.MethodLabel(row.Method)),
			})
			if err := r.judge.set(s.engine, row.Trial.Rung); err != nil {
				return err
			}
			if err := r.held.measure(ctx, s.engine, row.Trial.Candidate, true); err != nil {
				return err
			}
			row.HeldOut = r.held.perplexity(row.Trial.Candidate, true)
		}
		rung.HeldOutTokens = r.held.spent
		result.HeldOutTokens += r.held.spent
		result.HeldOut = union(result.HeldOut, r.held.texts)
	}
	return nil
}

// byInterest are the places of the rows: the result's, and the others by their fitness.
func (r *RungResult) byInterest() []int {
	last := len(r.Rows) - 1
	places := []int{last}
	for k := range last {
		places = append(places, k)
	}
	slices.SortStableFunc(places[1:], func(a, b int) int {
		return cmp.Compare(r.Rows[a].Trial.Fitness, r.Rows[b].Trial.Fitness)
	})
	return places
}

// union adds to all what it lacks: rungs may use different texts, since a long one needs a longer
// text.
func union[T comparable](all, more []T) []T {
	for _, x := range more {
		if !slices.Contains(all, x) {
			all = append(all, x)
		}
	}
	return all
}
