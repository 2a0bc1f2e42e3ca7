package longrope

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/evals/draw"
	"github.com/longrope/longrope/evals/label"
	"github.com/longrope/longrope/ropescale"
)

// searchResult is what search writes with --json.
type searchResult struct {
	Model         string            `json:"model"`
	Digest        string            `json:"model_digest"`
	Texts         []evals.Text      `json:"texts"`
	HeldOut       []evals.Text      `json:"held_out_texts"`
	Rungs         []rungResult      `json:"rungs"`
	Trials        int               `json:"trials"`
	Tokens        int               `json:"tokens"`
	HeldOutTokens int               `json:"held_out_tokens"`
	Complete      bool              `json:"complete"` // false: stopped by --budget TIME, and can go on
	Seconds       float64           `json:"seconds"`
	Files         map[string]string `json:"files,omitempty"`
	Ladder        *ropescale.Ladder `json:"ladder"`
}

// rungResult is one rung that was searched.
type rungResult struct {
	Target        int         `json:"target"`
	Relative      string      `json:"relative,omitempty"` // what candidates stretch, if not the own RoPE
	Measure       string      `json:"fitness"`
	Rows          []searchRow `json:"rows"`
	Trials        int         `json:"trials"`
	Tokens        int         `json:"tokens"`
	HeldOutTokens int         `json:"held_out_tokens"`
}

// searchRow is a method with its fitness, what that is made of, and its perplexity on held-out text; nil where it failed or was
// not measured.
type searchRow struct {
	Method  string   `json:"method"`
	Fitness *float64 `json:"fitness"`
	Text    *float64 `json:"text,omitempty"`         // perplexity of the search text
	Keys    *float64 `json:"keys,omitempty"`         // NLL of hidden keys, nats
	Further *float64 `json:"further_keys,omitempty"` // of those that finalists alone look for
	HeldOut *float64 `json:"held_out"`

	trial ropescale.Trial
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

// finish writes the factors, measures them and the methods on held-out text, and writes the page.
func (s *search) finish(ctx context.Context) (*searchResult, error) {
	l, err := s.ladder()
	if err != nil {
		return nil, err
	}
	r := &searchResult{Model: s.m.name, Digest: s.e.Info().Digest, Trials: l.Source.Trials, Tokens: l.Source.Tokens,
		Complete: len(s.rungs) == len(s.f.targets) && s.rungs[len(s.rungs)-1].complete, Files: map[string]string{}, Ladder: l}
	for _, rung := range s.rungs {
		r.Rungs = append(r.Rungs, rung.result())
		r.Texts = union(r.Texts, rung.texts)
	}

	// The factors are what was paid for: they are on disk before anything else is tried.
	if err := atomicfile.Write(s.f.out, l.WriteFactors); err != nil {
		return nil, err
	}
	r.Files["factors"] = s.f.out
	if s.f.plot != "" {
		files, err := s.draw(l)
		if err != nil {
			return nil, fmt.Errorf("the factors are found, the picture is not drawn: %w", err)
		}
		r.Files["plots"] = strings.Join(files, ", ")
	}
	if err := s.measureHeldOut(ctx, r); err != nil {
		if ctx.Err() == nil {
			return nil, err
		}
		s.say("interrupted before the held-out text was read: that column is left empty")
	}
	if s.f.page != "" {
		if err := writePage(s.f.page, s.page(r)); err != nil {
			return nil, fmt.Errorf("the factors are found, the page is not written: %w", err)
		}
		r.Files["report"] = s.f.page
	}
	r.Files["study"] = s.f.study
	r.Seconds = time.Since(s.started).Seconds()
	return r, nil
}

// ladder is what was found, in the model's ladder, with where it came from.
func (s *search) ladder() (*ropescale.Ladder, error) {
	var found []ropescale.Rung
	var searched []searchedRung
	source := &ropescale.Source{ModelDigest: s.e.Info().Digest, Method: "longrope", Algorithm: s.rungs[0].study.Options().Algorithm, Seed: s.f.seed}
	for _, r := range s.rungs {
		best, ok := r.found()
		if !ok {
			return nil, fmt.Errorf("every candidate for %s tokens failed, so the model computes no finite perplexity on these texts", size(r.step.target))
		}
		found = append(found, best.Rung)
		trials, tokens := len(r.study.History()), r.spent()
		source.Trials, source.Tokens, source.Texts = source.Trials+trials, source.Tokens+tokens, union(source.Texts, r.study.Options().Texts)
		source.Measure, source.Fitness = r.judge.Name, best.Fitness
		searched = append(searched, searchedRung{r.step.target, r.step.relative, r.judge.Name, best.Fitness, trials, tokens})
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
	if l := s.m.info.Ladder; l != nil && l.Source != nil {
		if err := note("before", l.Source); err != nil {
			return nil, err
		}
	}
	l, err := ladderWith(s.m.info, found...)
	if err != nil {
		return nil, err
	}
	l.Source = source
	return l, nil
}

// result is the rung's part of the result; held-out text comes later.
func (r *searching) result() rungResult {
	best, _ := r.found()
	out := rungResult{Target: r.step.target, Relative: r.step.relative, Measure: r.judge.Name, Rows: []searchRow{}, Trials: len(r.study.History()), Tokens: r.spent()}
	scores := scoresOf(r.study)
	row := func(method string, t ropescale.Trial) {
		s := scores[t.Candidate]
		out.Rows = append(out.Rows, searchRow{Method: method, Fitness: finite(t.Fitness), Text: s.text, Keys: s.keys, Further: s.further, trial: t})
	}
	for _, name := range r.seedNames() {
		if t, ok := r.study.Seeds()[name]; ok {
			row(name, t)
		}
	}
	for _, c := range r.step.given {
		for _, t := range r.study.History() {
			if t.Origin == c.Origin && t.Generation == 0 {
				row(c.Origin, t)
			}
		}
	}
	row("longrope", best)
	return out
}

// measureHeldOut fills in the column of text that was not searched on.
func (s *search) measureHeldOut(ctx context.Context, result *searchResult) error {
	started := time.Now()
	defer s.done()
	for i, r := range s.rungs {
		if r.held == nil {
			continue
		}
		rung := &result.Rungs[i]
		for k := range rung.Rows {
			row := &rung.Rows[k]
			s.progress(started, "held-out text", float64(i*len(rung.Rows)+k), float64(len(s.rungs)*len(rung.Rows)), size(r.step.target)+" tokens, "+ropescale.MethodLabel(row.Method))
			if err := r.judge.set(r.e, row.trial.Rung); err != nil {
				return err
			}
			if err := r.held.read(ctx, r.e, row.trial.Candidate, true); err != nil {
				return err
			}
			if p, ok := r.held.perplexity(row.trial.Candidate, true); ok {
				row.HeldOut = &p
			}
		}
		rung.HeldOutTokens = r.held.spent
		result.HeldOutTokens += r.held.spent
		result.HeldOut = union(result.HeldOut, r.held.texts)
	}
	return nil
}

// union adds what is not in all yet: rungs may read other texts, since a long one needs a longer text.
func union[T comparable](all, more []T) []T {
	for _, x := range more {
		if !slices.Contains(all, x) {
			all = append(all, x)
		}
	}
	return all
}

func finite(x float64) *float64 {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return nil
	}
	return &x
}

// report prints what a search found.
func (a *app) report(r *searchResult, f searchFlags) error {
	if a.json {
		return a.printJSON(r)
	}
	cell := func(x *float64) string {
		if x == nil {
			return "-"
		}
		return fitness(*x)
	}
	has := func(value func(searchRow) *float64) bool {
		return slices.ContainsFunc(r.Rungs, func(rung rungResult) bool {
			return slices.ContainsFunc(rung.Rows, func(row searchRow) bool { return value(row) != nil })
		})
	}
	// A fitness of keys is told beside what it is made of; one of text alone is the perplexity of that.
	keys := has(func(row searchRow) *float64 { return row.Keys })
	further := keys && has(func(row searchRow) *float64 { return row.Further })
	header, left := []string{"", "on search text", "on held-out text", "factors", "start window", "attention factor"}, 1
	if keys {
		header = slices.Replace(header, 1, 2, "fitness", "keys, nats", "on search text")
	}
	if further {
		header = slices.Insert(header, 3, "further keys, nats")
	}
	if len(r.Rungs) > 1 {
		header, left = append([]string{"length"}, header...), 2
	}
	var rows [][]string
	for _, rung := range r.Rungs {
		length := size(rung.Target)
		for _, row := range rung.Rows {
			low, high := draw.FactorRange([]ropescale.Rung{row.trial.Rung})
			cells := []string{ropescale.MethodLabel(row.Method), cell(row.Fitness)}
			if keys {
				cells = append(cells, cell(row.Keys), cell(row.Text))
			}
			if further {
				cells = slices.Insert(cells, 3, cell(row.Further))
			}
			cells = append(cells, cell(row.HeldOut), label.Number(low)+" … "+label.Number(high), fmt.Sprint(row.trial.Rung.StartWindow), label.Number(row.trial.Rung.AttentionFactor))
			if len(r.Rungs) > 1 {
				cells, length = append([]string{length}, cells...), ""
			}
			rows = append(rows, cells)
		}
	}
	if err := a.print(table(header, rows, left)); err != nil {
		return err
	}
	a.say("fitness is %s; %d trials, %s tokens, and %s of held-out text", r.Rungs[len(r.Rungs)-1].Measure, r.Trials, count(r.Tokens), count(r.HeldOutTokens))
	for _, rung := range r.Rungs {
		// Every algorithm's first batch is what it begins with.
		if best := rung.Rows[len(rung.Rows)-1].trial; best.Generation == 0 {
			a.say("nothing better than %s was found for %s tokens: these are its factors", ropescale.MethodLabel(best.Origin), size(rung.Target))
		}
	}
	if !r.Complete {
		a.say("the search is not complete; to go on, give the same command again")
	}
	if files := r.Files["plots"]; files != "" {
		a.say("pictures: %s", files)
	}
	if f.page != "" {
		a.say("all about it, in a browser: %s", f.page)
	}
	a.say("wrote %s; next:\n  %s", f.out, next(r.Model, f))
	return nil
}

// next is the command that comes after a search.
func next(model string, f searchFlags) string {
	return fmt.Sprintf("ollama longrope convert %s --factors %s --name %s", quote(model), quote(f.out), quote(nameFor(model, f.targets[len(f.targets)-1])))
}
