package longrope

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/longrope/longrope/evals"
	defaultmodel "github.com/longrope/longrope/evals/default"
	"github.com/longrope/longrope/ropescale"
)

// searchResult is what search writes with --json.
type searchResult struct {
	Model    string            `json:"model"`
	Digest   string            `json:"model_digest"`
	Target   int               `json:"target"`
	Measure  string            `json:"fitness"`
	Texts    []evals.Text      `json:"texts"`
	HeldOut  []evals.Text      `json:"held_out_texts"`
	Rows     []searchRow       `json:"rows"`
	Trials   int               `json:"trials"`
	Tokens   int               `json:"tokens"`
	Complete bool              `json:"complete"` // false: stopped by --budget TIME, and can go on
	Seconds  float64           `json:"seconds"`
	Files    map[string]string `json:"files,omitempty"`
	Ladder   *ropescale.Ladder `json:"ladder"`
}

// searchRow is a method with its fitness and perplexity on held-out text; nil where it failed or was not measured.
type searchRow struct {
	Method  string   `json:"method"`
	Fitness *float64 `json:"fitness"`
	HeldOut *float64 `json:"held_out"`

	rung ropescale.Rung
}

// finish measures the best factors and the methods on held-out text and writes the files.
func (s *searching) finish(ctx context.Context, texts []evals.Text) (*searchResult, error) {
	l, err := s.study.Ladder()
	if err != nil {
		if len(s.study.History()) > 0 {
			return nil, fmt.Errorf("%w: every candidate failed, so the model computes no finite perplexity on these texts", err)
		}
		return nil, fmt.Errorf("%w; give a larger --budget", err)
	}
	best, _ := s.study.Best()
	rows := []searchRow{}
	for _, name := range seedOrder {
		if t, ok := s.study.Seeds()[name]; ok {
			rows = append(rows, searchRow{Method: name, Fitness: finite(t.Fitness), rung: t.Rung})
		}
	}
	rows = append(rows, searchRow{Method: "longrope", Fitness: finite(best.Fitness), rung: best.Rung})
	r := &searchResult{Model: s.m.name, Digest: s.e.Info().Digest, Target: int(s.f.target), Measure: s.judge.Name, Texts: texts,
		Rows: rows, Trials: l.Source.Trials, Tokens: l.Source.Tokens, Complete: s.complete, Files: map[string]string{}, Ladder: l}

	// The factors are what was paid for: they are on disk before anything else is tried.
	if s.f.out != "" {
		if err := evals.WriteFile(s.f.out, l.WriteFactors); err != nil {
			return nil, err
		}
		r.Files["factors"] = s.f.out
	}
	if s.f.plot != "" {
		files, err := drawSearch(s.f.plot, s.study)
		if err != nil {
			return nil, fmt.Errorf("the factors are found, the picture is not drawn: %w", err)
		}
		r.Files["plot"], r.Files["plot_search"] = files[0], files[1]
	}
	if err := s.measureHeldOut(ctx, r); err != nil {
		if ctx.Err() == nil {
			return nil, err
		}
		s.say("interrupted before the held-out text was read: that column is left empty")
	}
	if s.f.study != "" {
		r.Files["study"] = s.f.study
	}
	r.Seconds = time.Since(s.started).Seconds()
	return r, nil
}

// readHeldOut prepares the windows of text that is not searched on. It does so before the search: what is wrong with a
// text is better known before the hours than after them.
func (s *searching) readHeldOut(given []evals.Text) error {
	target := int(s.f.target)
	windows := max(s.f.windows, len(given)) // as many as a candidate reads; of what was given, every text
	texts, err := textsFor(s.e, given, defaultmodel.TestTexts(), target, windows)
	if errors.Is(err, errBundled) {
		s.say("%v: the held-out column stays empty; give a text with --held-out", err)
		return nil
	}
	if err != nil {
		return err
	}
	texts = texts[:min(len(texts), windows)]
	if s.windows, err = evals.SampleWindows(s.e, texts, target, windows); err != nil {
		return fmt.Errorf("--held-out: %w", err)
	}
	s.heldOut = texts
	return nil
}

// measureHeldOut fills in the column of text that was not searched on.
func (s *searching) measureHeldOut(ctx context.Context, r *searchResult) error {
	if s.windows == nil {
		return nil
	}
	started := time.Now()
	defer s.done()
	for i := range r.Rows {
		s.progress(started, "held-out text", float64(i), float64(len(r.Rows)), r.Rows[i].Method)
		if err := s.set(r.Rows[i].rung); err != nil {
			return err
		}
		nll, _, err := evals.Score(ctx, s.e, s.windows, 1)
		switch {
		case errors.Is(err, evals.ErrNotFinite):
			continue
		case err != nil:
			return err
		}
		r.Rows[i].HeldOut = finite(math.Exp(nll))
	}
	r.HeldOut = s.heldOut
	return nil
}

// set gives the engine a rung that serves every length up to the target.
func (s *searching) set(g ropescale.Rung) error {
	l, err := ropescale.NewLadder(s.judge.Rope, s.judge.Base, g)
	if err != nil {
		return err
	}
	return s.e.SetLadder(l)
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
	var rows [][]string
	for _, row := range r.Rows {
		low, high := bounds([]ropescale.Rung{row.rung})
		rows = append(rows, []string{label(row.Method), cell(row.Fitness), cell(row.HeldOut), short(low) + " … " + short(high),
			fmt.Sprint(row.rung.StartWindow), short(row.rung.AttentionFactor)})
	}
	err := a.print(table([]string{"", "on search text", "on held-out text", "factors", "start window", "attention factor"}, rows, 1))
	if err != nil {
		return err
	}
	a.say("%s; %d trials, %s tokens", r.Measure, r.Trials, count(r.Tokens))
	if !r.Complete {
		a.say("the search is not complete; to go on, give the same command again")
	}
	if f.plot != "" {
		a.say("pictures: %s, %s", r.Files["plot"], r.Files["plot_search"])
	}
	if f.out == "" {
		a.say("nothing was written; give -o factors.json to keep the factors")
		return nil
	}
	a.say("wrote %s; next:\n  ollama longrope convert %s --factors %s --name %s", f.out, quote(r.Model), quote(f.out), quote(nameFor(r.Model, r.Target)))
	return nil
}
