package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"

	"github.com/longrope/longrope/convert/atomicfile"
	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale/study"
)

const (
	// heldOutShare is how much of a search's tokens may be spent on held-out text while it runs,
	// and once more at its end. The best start and the first candidate that is better are always
	// measured, and at the end the result and the best method that needs no search.
	heldOutShare = 0.05
	// heldOutCandidates is how many candidates should be measured while the search runs.
	heldOutCandidates = 10
	// heldOutWindows are used at the end at least, where a candidate is scored on as many: fewer
	// say nothing.
	heldOutWindows = 3
)

// heldOut is text that is not searched on, and the losses of candidates on it. They are kept in a
// file next to the journal: a search that is resumed evaluates nothing twice, and a page can be
// made of the files alone.
type heldOut struct {
	texts   []evals.Text
	ids     []string // of the texts
	length  int
	windows [][]int
	live    []int // places in windows of those that are used while the search runs
	allowed int   // tokens, while the search runs
	spent   int   // tokens, in all runs
	losses  Losses
	file    *os.File
}

// Losses are mean NLLs in nats by candidate and window.
type Losses map[int]map[int]float64

// heldOutHeader is the first line of the file, heldOutLine each other one. Study is the digest of
// the journal's header: losses belong to the candidates of that study, and of no other.
type heldOutHeader struct {
	Version int      `json:"longrope_held_out"`
	Study   string   `json:"study"`
	Texts   []string `json:"texts"`
	Length  int      `json:"length"`
	Windows int      `json:"windows"`
	Live    []int    `json:"live"`
}

type heldOutLine struct {
	Candidate int          `json:"candidate"`
	Window    int          `json:"window"`
	Loss      study.Losses `json:"loss"` // one
}

// heldOutVersion 2 has Study. A file of version 1 may be another study's and is not used.
const heldOutVersion = 2

// newHeldOut prepares windows of text that is not searched on, as many as a candidate is scored on
// if a search of so many tokens may use them. It is nil where the bundled texts are too short. This
// happens before the search: what is wrong with a text is better known before the hours than after
// them.
func newHeldOut(
	e evals.Engine, o *Options, ev Events, g *goal, windows, budget int,
) (*heldOut, error) {
	target, first := g.target, len(g.methods(o.Algorithm))+1
	affordable := int(heldOutShare*float64(budget)) / (first * target)
	windows = min(windows, max(heldOutWindows, affordable))
	windows = max(windows, len(o.HeldOut)) // of each text that was given, one at least
	texts, err := TextsFor(e, o.HeldOut, TestBooks, target, windows)
	if errors.Is(err, errBundled) {
		ev.Say("%v: the held-out column stays empty; give a text with %s", err,
			o.Called.Of("HeldOut"))
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h := &heldOut{texts: texts[:min(len(texts), windows)], length: target, losses: Losses{}}
	if h.windows, err = evals.SampleWindows(e, h.texts, target, windows); err != nil {
		return nil, o.Called.Wrong("HeldOut", ": %w", err)
	}
	for _, t := range h.texts {
		h.ids = append(h.ids, textID(t))
	}
	return h, nil
}

// heldOutFile is the file that belongs to a journal.
func heldOutFile(journal string) string { return journal + ".held-out" }

// open settles how many tokens may be evaluated during a search of so many, and takes in the losses
// of earlier runs. The file is restarted where it belongs to another study or other texts, or has
// losses of candidates that the study does not know: it outlived its journal.
func (h *heldOut) open(journal string, candidates map[int]bool, budget int) error {
	h.allowed = int(heldOutShare * float64(budget))
	n := min(max(h.allowed/(heldOutCandidates*h.length), 1), len(h.windows))
	h.live = nil
	for i := range n {
		h.live = append(h.live, i*len(h.windows)/n)
	}
	study, err := studyDigest(journal)
	if err != nil {
		return fmt.Errorf("held-out text: %w", err)
	}
	path := heldOutFile(journal)
	old, err := atomicfile.Read(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("held-out text: %w", err)
	}
	header := heldOutHeader{heldOutVersion, study, h.ids, h.length, len(h.windows), h.live}
	kept, losses, whole := parseHeldOut(old)
	same := reflect.DeepEqual(kept, &header)
	for candidate := range losses {
		same = same && candidates[candidate]
	}
	if same {
		h.losses = losses
		for _, l := range losses {
			h.spent += len(l) * h.length
		}
	} else {
		whole = 0
	}
	h.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("held-out text: %w", err)
	}
	if err := h.file.Truncate(int64(whole)); err != nil {
		return fmt.Errorf("held-out text: %w", err)
	}
	if same {
		return nil
	}
	return h.write(header)
}

// write appends a line to the file.
func (h *heldOut) write(line any) error {
	b, err := json.Marshal(line)
	if err == nil {
		_, err = h.file.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("held-out text: %w", err)
	}
	return nil
}

// parseHeldOut reads a file of losses, up to the first line that is none: the kill of a search may
// have torn the last. whole is the length of the part that was read; the header is nil where there
// is none.
func parseHeldOut(b []byte) (header *heldOutHeader, losses Losses, whole int) {
	for {
		line, _, ok := bytes.Cut(b[whole:], []byte("\n"))
		if !ok {
			return header, losses, whole
		}
		if header == nil {
			h := new(heldOutHeader)
			if json.Unmarshal(line, h) != nil || h.Version != heldOutVersion || h.Length < 1 ||
				h.Windows < 1 {
				return nil, nil, 0
			}
			header, losses = h, Losses{}
		} else {
			var l heldOutLine
			if json.Unmarshal(line, &l) != nil || l.Candidate < 0 || len(l.Loss) != 1 ||
				l.Window < 0 || l.Window >= header.Windows {
				return header, losses, whole
			}
			losses.put(l.Candidate, l.Window, l.Loss[0])
		}
		whole += len(line) + 1
	}
}

func (l Losses) put(candidate, window int, loss float64) {
	if l[candidate] == nil {
		l[candidate] = map[int]float64{}
	}
	l[candidate][window] = loss
}

// HeldOut is the part of a rung's search that is about held-out text.
type HeldOut struct {
	Texts  []string // with their digests
	Live   []int    // the windows that are used while the search runs
	Losses Losses
}

// ReadHeldOut reads the losses next to a journal; they are empty where there are none of its study.
func ReadHeldOut(journal string) (HeldOut, error) {
	study, err := studyDigest(journal)
	if err != nil {
		return HeldOut{}, err
	}
	b, err := atomicfile.Read(heldOutFile(journal))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return HeldOut{}, err
	}
	header, losses, _ := parseHeldOut(b)
	if header == nil || header.Study != study {
		return HeldOut{}, nil
	}
	return HeldOut{header.Texts, header.Live, losses}, nil
}

// part is what h says in a result.
func (h *heldOut) part() HeldOut {
	if h == nil {
		return HeldOut{}
	}
	return HeldOut{h.ids, h.live, h.losses}
}

// Perplexity is a candidate's on the windows that are used while the search runs. nil: not all of
// them were evaluated, or the model computes nothing finite.
func (h HeldOut) Perplexity(candidate int) *float64 {
	return h.Losses.perplexity(candidate, h.Live)
}

// perplexity is a candidate's over windows; nil where a loss is missing or not finite.
func (l Losses) perplexity(candidate int, windows []int) *float64 {
	sum := 0.0
	for _, w := range windows {
		loss, ok := l[candidate][w]
		if !ok || math.IsInf(loss, 0) {
			return nil
		}
		sum += loss
	}
	if len(windows) == 0 {
		return nil
	}
	p := math.Exp(sum / float64(len(windows)))
	return &p
}

// may reports whether the share of a search's tokens allows to measure a candidate while the search
// runs, or at its end.
func (h *heldOut) may(end bool) bool {
	windows, allowed := len(h.live), h.allowed
	if end {
		windows, allowed = len(h.windows), 2*h.allowed
	}
	return h.spent+windows*h.length <= allowed
}

// must reports whether the best candidate so far is measured in any case: as the best of a number
// of starts, whose numbers are the lowest, or as the first that is better than these.
func (h *heldOut) must(best, starts int) bool {
	for candidate := range h.losses {
		if candidate == best || candidate >= starts {
			return false
		}
	}
	return true
}

// perplexity is a candidate's on the windows that are used while the search runs, or on all.
func (h *heldOut) perplexity(candidate int, all bool) *float64 {
	if h == nil {
		return nil
	}
	return h.losses.perplexity(candidate, h.places(all))
}

// missing reports whether a window of a candidate is.
func (h *heldOut) missing(candidate int) bool { return len(h.losses[candidate]) < len(h.windows) }

func (h *heldOut) places(all bool) []int {
	if !all {
		return h.live
	}
	places := make([]int, len(h.windows))
	for i := range places {
		places[i] = i
	}
	return places
}

// measure has the engine, on which the candidate's factors are set, evaluate the windows that are
// missing.
func (h *heldOut) measure(ctx context.Context, e evals.Engine, candidate int, all bool) error {
	for _, w := range h.places(all) {
		if _, ok := h.losses[candidate][w]; ok {
			continue
		}
		loss, _, err := evals.Score(ctx, e, h.windows[w:w+1], 1)
		if errors.Is(err, evals.ErrNotFinite) {
			loss, err = math.Inf(1), nil
		}
		if err != nil {
			return err
		}
		h.spent += h.length
		h.losses.put(candidate, w, loss)
		if err := h.write(heldOutLine{candidate, w, study.Losses{loss}}); err != nil {
			return err
		}
	}
	return nil
}

func (h *heldOut) close() {
	if h != nil && h.file != nil {
		h.file.Close()
	}
}
