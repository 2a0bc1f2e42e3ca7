package longrope

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"

	"github.com/longrope/longrope/evals"
	"github.com/longrope/longrope/ropescale"
)

const (
	// heldOutShare is how much of a search's tokens may be spent on held-out text while it goes on, and once more at its end. The
	// three methods and the first candidate that is better than them are always read.
	heldOutShare = 0.05
	// heldOutReadings is how many candidates should be read while it goes on.
	heldOutReadings = 10
	// heldOutWindows are read at the end at least, where a candidate reads as many: fewer say nothing.
	heldOutWindows = 3
)

// heldOut is text that is not searched on, and what candidates are worth on it. Losses are kept in a file beside the journal: a
// search that goes on reads nothing twice, and a page can be made of the files alone.
type heldOut struct {
	texts   []evals.Text
	ids     []string // of the texts
	length  int
	windows [][]int
	live    []int // places in windows of those that are read while the search goes on
	allowed int   // tokens
	spent   int   // tokens, in all runs
	losses  map[int]map[int]float64
	file    *os.File
}

// heldOutHeader is the first line of the file, heldOutLine each other one.
type heldOutHeader struct {
	Version int      `json:"longrope_held_out"`
	Texts   []string `json:"texts"`
	Length  int      `json:"length"`
	Windows int      `json:"windows"`
	Live    []int    `json:"live"`
}

type heldOutLine struct {
	Candidate int              `json:"candidate"`
	Window    int              `json:"window"`
	Loss      ropescale.Losses `json:"loss"` // one
}

// newHeldOut prepares windows of text that is not searched on, as many as a candidate reads if a search of so many tokens may
// read them. It is nil where the bundled texts are too short. This happens before the search: what is wrong with a
// text is better known before the hours than after them.
func (a *app) newHeldOut(e evals.Engine, given []evals.Text, target, windows, budget int) (*heldOut, error) {
	windows = min(windows, max(heldOutWindows, int(heldOutShare*float64(budget))/((len(seedOrder)+1)*target)))
	windows = max(windows, len(given)) // of what was given, every text
	texts, err := textsFor(e, given, testBooks, target, windows)
	if errors.Is(err, errBundled) {
		a.say("%v: the held-out column stays empty; give a text with --held-out", err)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h := &heldOut{texts: texts[:min(len(texts), windows)], length: target, losses: map[int]map[int]float64{}}
	if h.windows, err = evals.SampleWindows(e, h.texts, target, windows); err != nil {
		return nil, fmt.Errorf("--held-out: %w", err)
	}
	for _, t := range h.texts {
		h.ids = append(h.ids, textID(t))
	}
	return h, nil
}

// heldOutFile is the file that belongs to a journal.
func heldOutFile(study string) string { return study + ".held-out" }

// open settles what may be read during a search of so many tokens, and takes in what earlier runs read. A file of other texts
// is begun anew: what it holds can be read again.
func (h *heldOut) open(study string, budget int) error {
	h.allowed = int(heldOutShare * float64(budget))
	n := min(max(h.allowed/(heldOutReadings*h.length), 1), len(h.windows))
	h.live = nil
	for i := range n {
		h.live = append(h.live, i*len(h.windows)/n)
	}
	old, err := os.ReadFile(heldOutFile(study))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("held-out text: %w", err)
	}
	header := heldOutHeader{1, h.ids, h.length, len(h.windows), h.live}
	kept, losses, whole := parseHeldOut(old)
	same := reflect.DeepEqual(kept, &header)
	if same {
		h.losses = losses
		for _, l := range losses {
			h.spent += len(l) * h.length
		}
	} else {
		whole = 0
	}
	if h.file, err = os.OpenFile(heldOutFile(study), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644); err != nil {
		return fmt.Errorf("held-out text: %w", err)
	}
	if err := h.file.Truncate(int64(whole)); err != nil || same {
		return err
	}
	return h.write(header)
}

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

// parseHeldOut reads a file of losses, up to the first line that is none: the kill of a search may have torn the last. whole is
// the length of what was read; the header is nil where there is none.
func parseHeldOut(b []byte) (header *heldOutHeader, losses map[int]map[int]float64, whole int) {
	for {
		line, _, ok := bytes.Cut(b[whole:], []byte("\n"))
		if !ok {
			return header, losses, whole
		}
		if header == nil {
			h := new(heldOutHeader)
			if json.Unmarshal(line, h) != nil || h.Version != 1 || h.Length < 1 || h.Windows < 1 {
				return nil, nil, 0
			}
			header, losses = h, map[int]map[int]float64{}
		} else {
			var l heldOutLine
			if json.Unmarshal(line, &l) != nil || l.Candidate < 0 || l.Window < 0 || l.Window >= header.Windows || len(l.Loss) != 1 {
				return header, losses, whole
			}
			put(losses, l.Candidate, l.Window, l.Loss[0])
		}
		whole += len(line) + 1
	}
}

func put(losses map[int]map[int]float64, candidate, window int, loss float64) {
	if losses[candidate] == nil {
		losses[candidate] = map[int]float64{}
	}
	losses[candidate][window] = loss
}

// may says whether a candidate may be read now: the first ones always, others while the share lasts.
func (h *heldOut) may() bool {
	return h != nil && (len(h.losses) < len(seedOrder)+1 || h.spent+len(h.live)*h.length <= h.allowed)
}

// perplexity is what a candidate is worth on the windows that are read while the search goes on, or on all. false: not all of
// them were read, or the model computes nothing finite.
func (h *heldOut) perplexity(candidate int, all bool) (float64, bool) {
	if h == nil {
		return 0, false
	}
	return meanPerplexity(h.losses[candidate], h.places(all))
}

func meanPerplexity(losses map[int]float64, windows []int) (float64, bool) {
	sum := 0.0
	for _, w := range windows {
		loss, ok := losses[w]
		if !ok || math.IsInf(loss, 0) {
			return 0, false
		}
		sum += loss
	}
	return math.Exp(sum / float64(len(windows))), len(windows) > 0
}

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

// read lets the engine, on which the candidate's factors are set, read what it has not read of it yet.
func (h *heldOut) read(ctx context.Context, e evals.Engine, candidate int, all bool) error {
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
		put(h.losses, candidate, w, loss)
		if err := h.write(heldOutLine{candidate, w, ropescale.Losses{loss}}); err != nil {
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
